"""Files and pipes in and out: the only package that imports PyAV.

    reader.py       Reader: any container, sequence, still or pipe -> frames at exact times
    picture.py      Picture: a decoded frame in its own format; RGB on demand, patches composited into its own planes
    writer.py       Writer: frames -> a file that appears under its name only when it is complete
    film.py         the part of the Writer that makes videos        stills.py   ... and pictures and sequences
    encoders.py     codec names, their options, which pixel format fits
    target.py       what a name asks for, and which containers hold which stream
    copies.py       audio, subtitles and attachments, packet for packet
    source.py       opening, and what to say when that fails
    colour.py  layout.py  orientation.py  hdr.py  moments.py  faults.py   the small facts these rest on
    probe.py        what this machine can really encode

Import the modules by name; this file imports nothing, so that `import videoclr` stays light.
"""
