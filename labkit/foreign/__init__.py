"""A lab in somebody else's cluster: only its API, through a kubeconfig that was given.

    labkit up --kubeconfig FILE --context NAME

``target`` reaches the cluster, ``rights`` asks whether what will be done may be done,
``ground`` whether the place is free; none of these changes anything.  ``claim`` is the lab's
mark and its list in the cluster of what it brought, ``held`` the client that keeps both and
leaves alone what is others', ``stock`` the course's app where nobody has an image of it, and
``removal`` takes everything away again.  The way to Services by name is ``labkit.gate``'s.

What the course puts into the cluster is ``workloads``' business, here as anywhere.
"""

from labkit.foreign import claim, stock
from labkit.foreign.claim import Claim
from labkit.foreign.ground import check
from labkit.foreign.held import Held
from labkit.foreign.kept import Kept
from labkit.foreign.removal import take_away
from labkit.foreign.target import Target, reach

__all__ = ["Claim", "Held", "Kept", "Target", "check", "claim", "reach", "stock", "take_away"]
