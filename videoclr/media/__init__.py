"""Files and pipes in and out: the only package that imports PyAV.

    reader.py       Reader: any container, sequence, still or pipe -> frames at exact times
    picture.py      Picture: a decoded frame in its own format; RGB on demand, patches composited into its own planes
    writer.py       Writer: frames -> a file that appears under its name only when it is complete
    film.py         the part of the Writer that makes videos        stills.py   ... and pictures and sequences
    encoders.py     codec names, their options, which pixel format fits
    target.py       what a name asks for, and which containers hold which stream
    copies.py       audio, subtitles and attachments, packet for packet; beside.py: in which order
    source.py       opening, and what to say when that fails
    filters.py      FFmpeg's filter graphs          spool.py        pictures that wait, on the disk
    grid.py         even rates                      silence.py      sound of containers without times
    segments.py     films in parts that outlive a crash                 splice.py  groups.py  joint.py  nal.py   smart copy
    boxes.py  matroska.py  mxf.py  headers.py  copylike.py   what a container or a stream says that PyAV does not tell
    colour.py  layout.py  orientation.py  hdr.py  hdr10plus.py  crop.py  sphere.py  scan.py  moments.py  gaps.py
    beginning.py  delay.py  clock.py
    timecode.py  selection.py  kept.py  subtitles.py  faults.py  linear.py  exif.py  dpx.py  exr.py   the small facts these rest on
    tiff.py  density.py  languages.py  tiles.py  captions.py  unread.py  chunks.py  y4m.py
    proxy.py  deliver.py  filelist.py  lock.py  opening.py  hardware.py   views for networks, deliverables, lists, locks, devices
    recode.py       pictures through a lossy encoder, for degradations, samples and benchmarks
    probe.py        what this machine can really encode

Import the modules by name; this file imports nothing, so that `import videoclr` stays light.
"""
