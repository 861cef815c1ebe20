"""Cuts of editing programs: what they show is restored, and a cut that shows that is written.

cut.py      OpenTimelineIO: clips, the frames of files that they need, what they name once those are restored
aaf.py      AAF, changed where it names media
fcpxml.py   FCPXML, likewise
xmeml.py    XML of Final Cut Pro 7, likewise
edl.py      EDL: for OTIO's adapter to read, and likewise
markup.py   XML whose text stays
native.py   what AAF and both kinds of XML have in common
formats.py  which of them reads a file, and as what it can be written
footage.py  finds the files on this machine, and what has to be known of them
conform.py  parts of files with handles, restored as a batch; the new cut
"""

from videoclr.timeline.conform import HANDLES, Conformed, Part, parts_of_timeline, restore_timeline, table_of

__all__ = ["HANDLES", "Conformed", "Part", "parts_of_timeline", "restore_timeline", "table_of"]
