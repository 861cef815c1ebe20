"""A page for whoever signs a restored film off: every track at its doubtful moments, before and after, worst first.

    moments.py   which moments of which tracks are worth a look, out of what `--report-frames` wrote
    pictures.py  those moments of the input and of the finished file
    page.py      one HTML file that needs nothing else

It is made of the finished files, so it shows what was delivered, encoding included, and works on any machine that has both
films and both reports.
"""

from videoclr.review.moments import Moment, TrackView
from videoclr.review.sign_off import Reviewed, review

__all__ = ["Moment", "Reviewed", "TrackView", "review"]
