"""The features that Amber brings: real answers about real media, one small module per kind.

`BUILTINS` names the modules; importing this package loads none of them. The others are shared by features:

    backbones    the networks of `embedding`: architectures, weights, preprocessing
    weights      files of weights inside installed packages, checked before they are used
    whisper      the recogniser of `words`: its weights, and a reading of half a minute of sound
    passages     what `words` hears together, from the probability of speech
    similarity   vectors and picture hashes compared, with the same numbers on every machine
    sheets       draws pictures as labelled tiles on one JPEG

`registered` makes the registry that settings name of them and of the user's own:

    registered   built-in features, those of modules, and functions that a program gives
"""

from __future__ import annotations

BUILTINS: tuple[str, ...] = (
    "amber_ray.features.probe",
    "amber_ray.features.frames",
    "amber_ray.features.light",
    "amber_ray.features.sharpness",
    "amber_ray.features.motion",
    "amber_ray.features.changes",
    "amber_ray.features.transitions",
    "amber_ray.features.shots",
    "amber_ray.features.text",
    "amber_ray.features.phash",
    "amber_ray.features.preview",
    "amber_ray.features.proxy",
    "amber_ray.features.loudness",
    "amber_ray.features.audio",
    "amber_ray.features.speech",
    "amber_ray.features.words",
    "amber_ray.features.transcript",
    "amber_ray.features.sound_events",
    "amber_ray.features.embedding",
    "amber_ray.features.labels",
    "amber_ray.features.faces",
    "amber_ray.features.shot_embedding",
    "amber_ray.features.shot_vector",
    "amber_ray.features.scenes",
    "amber_ray.features.duplicates",
    "amber_ray.features.match_cuts",
    "amber_ray.features.match_sheet",
)
