"""Ways out of a media root: URIs that mean something else, and files that point elsewhere.

Everything here asks for the secret of a `Trap`, or for its canary on the network, by a name or from within.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from tests.media import flat, write_picture, write_video

SECRET_SECONDS = 7
"""No other film here is this long, so an answer that says so was read from the secret."""


@dataclass(frozen=True)
class Trap:
    """A media root, a secret beside it, and a listener that nobody should ever connect to."""

    root: Path
    secret: Path
    listener: socket.socket

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def untouched(self) -> bool:
        """Whether nobody has connected; the kernel queues those who did."""
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return True
        return False


def trap(root: Path, beside: Path) -> Trap:
    """Lay one out: a film inside `root`, and in `beside` the same names with what must not be seen."""
    root.mkdir(parents=True, exist_ok=True)
    beside.mkdir(parents=True, exist_ok=True)
    grey = [flat((90, 90, 90))] * 8
    write_video(root / "film.mp4", grey)
    write_video(beside / "film.mp4", [flat((255, 0, 255))] * (SECRET_SECONDS * 8), fps=8)
    write_video(beside / "film.ts", [flat((255, 0, 255))] * (SECRET_SECONDS * 8), fps=8)
    write_picture(beside / "p1.png", flat((255, 0, 255)))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return Trap(root, beside, listener)


def names(trap: Trap) -> list[str]:
    """URIs that must all be refused. Some need the links and odd files that are made here."""
    root, secret, port = trap.root, trap.secret / "film.mp4", trap.port
    up = f"../{trap.secret.name}/film.mp4" if trap.secret.parent == root.parent else f"..{secret}"
    links = {
        "out.mp4": secret,
        "folder-out": secret.parent,
        "self.mp4": root / "self.mp4",
        "fd": "/proc/self/fd",
    }
    links |= {"passwd.mp4": "/etc/passwd", "zero.mp4": "/dev/zero", "twice.mp4": root / "out.mp4", "up": ".."}
    for name, target in links.items():
        if not (root / name).is_symlink():
            (root / name).symlink_to(target)
    if not (root / "fifo.mp4").exists():
        os.mkfifo(root / "fifo.mp4")
        with socket.socket(socket.AF_UNIX) as made:
            here = os.open(root, os.O_RDONLY)
            made.bind(f"/proc/self/fd/{here}/socket.mp4")  # a socket's own path may have 107 bytes only
            os.close(here)
    dotted = (
        *(
            "../",
            "..%2f",
            "%2e%2e/",
            "%2e%2e%2f",
            "%252e%252e%252f",
            "..%5c",
            "..\\",
            "..;/",
            ".%2e/",
            "....//",
        ),
        *(
            "\u2025/",
            "\uff0e\uff0e/",
            "..\uff0f",
            "..\u2215",
            "%c0%ae%c0%ae/",
            "..%c0%af",
            "%u002e%u002e/",
            "../\u200b",
        ),
    )
    inside = up.removeprefix("../")
    web = f"127.0.0.1:{port}/film.mp4"
    protocols = (
        *(
            f"{p}://{web}"
            for p in ("http", "https", "ftp", "ftps", "sftp", "gopher", "tcp", "udp", "rtp", "rtsp")
        ),
        *(
            f"{p}://{web}"
            for p in ("rtmp", "tls", "srt", "httpproxy", "unix", "dict", "ldap", "jar", "git", "smb")
        ),
        *(
            "http://169.254.169.254/latest/meta-data/",
            "http://[::ffff:169.254.169.254]/",
            "http://0x7f000001/",
        ),
        *(f"HTTP://localhost:{port}/", f"http:/{web}", f"http:{web}", f"//{web}", f"http://user:word@{web}"),
        *(f"concat:{secret}", f"concat:{root}/film.mp4|{secret}", f"subfile,,start,0,end,0,,:{secret}"),
        *(f"crypto:{secret}", f"crypto+file:{secret}", f"async:{secret}", f"cache:{secret}", f"tee:{secret}"),
        *("data:video/mp4;base64,AAAA", "pipe:0", "pipe:", "fd:0", f"hls+http://{web}", f"concatf:{secret}"),
        *(
            f"image2:{secret}",
            f"lavfi:movie={secret}",
            f"md5:{secret}",
            f"playlist:{secret}",
            "/dev/stdin",
            "-",
        ),
        *(f"s3://bucket{secret}", f"memory://{secret}", f"local://{secret}", f"simplecache::file://{secret}"),
        *(
            f"zip://a::file://{secret}",
            f"filecache::http://{web}",
            f"reference://{secret}",
            f"dir://{secret.parent}",
        ),
        *(
            f"github://a:b@c/{secret}",
            f"blockcache::{root}/film.mp4",
            f"arrow_hdfs://{web}",
            f"webhdfs://{web}",
        ),
    )
    return [
        *(f"{root}/{dots}{inside}" for dots in dotted),
        *(f"file://{root}/{dots}{inside}" for dots in dotted),
        *(str(secret), f"file://{secret}", f"FiLe:{secret}", f"file:///{secret}", f"{root}/{up}\0.mp4"),
        *(
            f"{root}/film.mp4\0",
            f"file://{root}/{up}%00.mp4",
            f"{root}/film.mp4/../{up}",
            f"{root}-/../{secret}",
        ),
        *(
            f"file://example.org{secret}",
            f"file://127.0.0.1{secret}",
            f"file://localhost:80{secret}",
            f"//{secret}",
        ),
        *(f"file://localhost@example.org{secret}", f"file://{root}@example.org", f"\\\\host\\{secret}"),
        *(
            "/proc/self/environ",
            "/proc/self/mem",
            "/proc/self/fd/0",
            f"/proc/self/root{secret}",
            "/proc/self/maps",
        ),
        *(
            f"/proc/self/cwd/{up}",
            "/proc/1/environ",
            "/dev/zero",
            "/dev/random",
            "/dev/tty",
            "/dev/fd/0",
            "/dev/mem",
        ),
        *(
            "/etc/passwd",
            "/etc/shadow",
            "~/.ssh/id_rsa",
            "~root/x",
            "$HOME/x",
            "/",
            ".",
            "..",
            "",
            "%00",
            up,
            "film.mp4",
        ),
        *(
            f"{root}/{name}"
            for name in (*links, "fifo.mp4", "socket.mp4", "folder-out/film.mp4", "up/film.mp4x")
        ),
        *(
            f"{root}/{name}"
            for name in ("fd/0", f"up/{trap.secret.name}/film.mp4", "folder-out/../etc/passwd")
        ),
        *protocols,
        *(f"file://{part}" for part in protocols),
    ]


# --- files that point elsewhere


def _box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I", len(data) + 8) + kind + data


def _alias(path: str) -> bytes:
    """A Macintosh alias record: the volume "disk", and (tag 2) an absolute path on it."""
    there = b"disk" + path.encode()
    tag = struct.pack(">HH", 2, len(there)) + there + b"\0" * (len(there) % 2)
    head = bytes(10) + b"\4disk" + bytes(23 + 12 + 1 + 63 + 16) + struct.pack(">HH", 1, 1) + bytes(16)
    return head + tag + struct.pack(">HH", 0xFFFF, 0)


def elsewhere(film: bytes, reference: bytes) -> bytes:
    """The film with its data reference, which says "in this file", replaced by `reference`."""
    was = _box(b"dref", b"\0" * 4, struct.pack(">I", 1), _box(b"url ", b"\0\0\0\1"))
    put = _box(b"dref", b"\0" * 4, struct.pack(">I", 1), reference)
    at = film.index(was)
    data = bytearray(film[:at] + put + film[at + len(was) :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        place = data.rindex(kind, 0, at) - 4
        size = int.from_bytes(data[place : place + 4], "big") + len(put) - len(was)
        data[place : place + 4] = size.to_bytes(4, "big")
    return bytes(data)


def _hls(*lines: str) -> bytes:
    head = ("#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:7", "#EXT-X-MEDIA-SEQUENCE:0")
    return "\n".join((*head, *lines, "#EXT-X-ENDLIST", "")).encode()


def pointers(trap: Trap) -> dict[str, bytes]:
    """Files by name; what each of them points to must be neither opened nor connected to."""
    path = str(trap.secret / "film.ts")
    web = f"http://127.0.0.1:{trap.port}/film.ts"
    film = (trap.root / "film.mp4").read_bytes()
    targets = {"path": path, "file": f"file://{path}", "web": web, "up": f"../{trap.secret.name}/film.ts"}
    targets |= {"concat": f"concat:{path}|{path}", "subfile": f"subfile,,start,0,end,9999,,:{path}"}
    targets |= {"crypto": f"crypto:{path}", "async": f"async:{path}", "cache": f"cache:{path}"}
    targets |= {
        "tcp": f"tcp://127.0.0.1:{trap.port}",
        "data": "data:video/mp2t;base64,RwAA",
        "pipe": "pipe:0",
    }
    made: dict[str, bytes] = {}
    for name, target in targets.items():
        made[f"{name}.m3u8"] = _hls("#EXTINF:7,", target)
        made[f"{name}.ffconcat"] = f"ffconcat version 1.0\nfile '{target}'\nduration 7\n".encode()
        made[f"{name}.mpd"] = (
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'mediaPresentationDuration="PT7S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
            '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1000">'
            f"<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>"
        ).encode()
        made[f"{name}.svg"] = (
            f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "{target}">]><svg width="9" height="9" '
            f'xmlns="http://www.w3.org/2000/svg"><image href="{target}" width="9" height="9"/>&x;</svg>'
        ).encode()
        made[f"{name}.mvg"] = (
            f"push graphic-context\nviewbox 0 0 9 9\nimage over 0,0 0,0 '{target}'\n".encode()
        )
        made[f"{name}.eps"] = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({target}) run\n".encode()
        made[f"{name}.mov"] = elsewhere(film, _box(b"alis", b"\0" * 4, _alias(target)))
        made[f"{name}-url.mov"] = elsewhere(film, _box(b"url ", b"\0" * 4, target.encode(), b"\0"))
        locator = _box(
            b"rdrf", b"\0" * 4, b"url ", struct.pack(">I", len(target) + 1), target.encode(), b"\0"
        )
        made[f"{name}-movie.mov"] = _box(b"ftyp", b"qt  \0\0\0\0qt  ") + _box(
            b"moov", _box(b"rmra", _box(b"rmda", locator))
        )
    made["key.m3u8"] = _hls(f'#EXT-X-KEY:METHOD=AES-128,URI="{web}"', "#EXTINF:7,", path)
    made["map.m3u8"] = _hls(f'#EXT-X-MAP:URI="{path}"', "#EXTINF:7,", web)
    made["master.m3u8"] = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{web}\n".encode()
    made["net.sdp"] = (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"a=control:rtsp://127.0.0.1:{trap.port}/x\nm=video {trap.port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    ).encode()
    made["script.avs"] = f'DirectShowSource("{path}")\n'.encode()
    made["meta.ffmeta"] = b";FFMETADATA1\ntitle=x\n"
    made["list.pls"] = f"[playlist]\nFile1={web}\nLength1=7\n".encode()
    made["rtsp.mov"] = f"RTSPtext\nrtsp://127.0.0.1:{trap.port}/x\n".encode()
    # Nobody can rely on a name: FFmpeg and Pillow look at the first bytes.
    lied = {
        f"{name}{suffix}": made[name]
        for name in list(made)
        for suffix in (".mp4", ".jpg")
        if name[0] in "pwk"
    }
    return {**made, **lied}


ODD_NAMES = (
    *(
        "%03d.mp4",
        "img%d.mp4",
        "concat:film.mp4|x.mp4",
        "pipe:0",
        "-i.mp4",
        "http:film.mp4",
        "a?b#c&d.mp4",
        "x.m3u8",
    ),
    *(
        "x.ffconcat",
        "x.sdp",
        "data:,x.mp4",
        "|ls.mp4",
        "$(ls).mp4",
        "*.mp4",
        "x.svg",
        "%2e%2e%2ffilm.mp4",
        "\u2025.mp4",
    ),
)
"""Names of good films that an opener of names would take for something else."""


def odd_names(trap: Trap) -> list[Path]:
    """Films under such names."""
    return [Path(shutil.copy(trap.root / "film.mp4", trap.root / name)) for name in ODD_NAMES]
