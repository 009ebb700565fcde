"""Media: which files may be read, what they are, and how pictures and sound come out of them.

    From a URI to an `Asset`:
    catalogue   the way in, `Catalogue`: identifies a URI's content by its digest, and remembers it;
    │           content that moved is the same asset, which `core.ledger` then has read where it is now
    ├ locate    the security check: which paths and URLs lie inside the media roots, symbolic links resolved
    ├ listing   what media lie under a prefix, page by page, and what could not be seen of it
    ├ names     which names stand for media in a folder, the same on every machine
    ├ mounts    which file systems are local, so that a `stat` may be made on an event loop
    ├ facts     media type, duration and streams, read from the content; never from the file's name
    └ uploads   files that callers sent, kept in the store under the digest of their bytes
                (what the catalogue remembers between runs is in `store.assets`)

    From an `Asset` to pictures and sound, as features call it:
    decode      the way in for pictures: those of a span, at given times, or of a still
    ├ looks     which looks at a film are to come, so that they share a decode
    ├ reader    one video stream: seek to a key frame, decode, choose frames by time
    ├ selection what each look takes of the pictures that come by
    ├ choice    which pictures are wanted, by their times
    ├ ahead     which packets the decoder need not be given: of pictures that nobody wants and none refers to
    ├ coded     what a packet's bytes say of its picture, before anything is decoded
    ├ clock     when a picture is shown, where stamps are missing, wrong or of decoding only
    ├ damage    whether the frames of a damaged file can be relied on, or a `MediaError` is due
    ├ stills    still pictures, by Pillow: what they are (for `facts`) and how they look
    └ scale     the size that a picture comes out in, and its conversion to upright RGB
    sound       the way in for sound: samples of a span, resampled to one channel or two, and decoded frames

    And back:
    fragment    pictures and sound as one piece of a fragmented MP4

    Below both:
    source      opens an asset's bytes, local or remote, and checks that they are still those registered
    container   FFmpeg's demuxers, which may open no other file and no network; the choice of streams
    headers     what PyAV does not pass on of a container's header: crops, its end, a second file behind it
    nvdec       a GPU's decoder, compared with the CPU's
    bounds      the limits on media that hold for the step that runs now, by a context variable

All of it blocks, so a server calls it in threads; only `Catalogue.at_hand` is fit for an event loop.
Must not know: features, Ray.
"""
