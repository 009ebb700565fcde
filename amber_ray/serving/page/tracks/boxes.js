// Boxes over the picture at the moment shown: faces, lines of text, whatever a track has with four sides.

const COLOURS = ["#ffb53d", "#5fd0ff", "#ff7ad9", "#8df08d", "#ffffff"];

// Where in its element a picture stands that keeps its shape, letters and all: {left, top, width, height}.
export function contained(elementWidth, elementHeight, pictureWidth, pictureHeight) {
  const scale = Math.min(elementWidth / pictureWidth, elementHeight / pictureHeight) || 0;
  const width = pictureWidth * scale, height = pictureHeight * scale;
  return { left: (elementWidth - width) / 2, top: (elementHeight - height) / 2, width, height };
}

// The boxes of a track at a time, each once.
export function boxesAt(track, time) {
  const found = [];
  for (const unit of track.between(time, time + 1e-6)) {
    for (const part of unit.parts ?? []) {
      if (part.boxes && part.start <= time + 1e-6 && time < part.end) found.push(...part.boxes);
    }
  }
  return found;
}

// Draws the boxes of all tracks; returns how many there are, for whoever can't see them.
export function drawBoxes(canvas, place, tracks, time) {
  const ratio = devicePixelRatio || 1, wide = canvas.clientWidth, high = canvas.clientHeight;
  if (canvas.width !== Math.round(wide * ratio)) canvas.width = Math.round(wide * ratio);
  if (canvas.height !== Math.round(high * ratio)) canvas.height = Math.round(high * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, wide, high);
  let count = 0;
  tracks.forEach((track, n) => {
    for (const box of boxesAt(track, time)) {
      one(context, place, box, COLOURS[n % COLOURS.length]);
      count++;
    }
  });
  return count;
}

function one(context, place, box, colour) {
  const x = place.left + box.left * place.width, y = place.top + box.top * place.height;
  const wide = (box.right - box.left) * place.width, high = (box.bottom - box.top) * place.height;
  context.lineWidth = 4;
  context.strokeStyle = "rgb(0 0 0 / 55%)";
  context.strokeRect(x, y, wide, high);
  context.lineWidth = 2;
  context.strokeStyle = colour;
  context.strokeRect(x, y, wide, high);
  context.fillStyle = colour;
  for (let i = 0; i + 1 < (box.points?.length ?? 0); i += 2) {
    context.fillRect(place.left + box.points[i] * place.width - 1.5, place.top + box.points[i + 1] * place.height - 1.5, 3, 3);
  }
  const words = [box.text, box.score == null ? "" : box.score.toFixed(2)].filter(Boolean).join(" ");
  if (!words) return;
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "bottom";
  const letters = context.measureText(words).width, under = y < 16 ? y + high + 16 : y;
  context.fillStyle = "rgb(0 0 0 / 70%)";
  context.fillRect(x - 1, under - 15, letters + 8, 15);
  context.fillStyle = colour;
  context.fillText(words, x + 3, under - 1);
}
