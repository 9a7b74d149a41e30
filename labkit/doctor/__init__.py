"""What this machine can and cannot do for a lab, each finding with a fix.

Looks only: nothing is started, changed or fetched, and nothing secret is told.  Each
module looks at one part of the machine, ``examination`` puts the looks together.  It is
for people in front of a machine that labkit has never seen: what stands in the way there
is said before, or right after, it gets in the way.
"""

from labkit.doctor.examination import LOOKS, Look, examine, in_short
from labkit.doctor.finding import Finding

__all__ = ["LOOKS", "Finding", "Look", "examine", "in_short"]
