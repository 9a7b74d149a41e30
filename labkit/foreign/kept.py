"""``cluster.json``: what a lab's folder keeps of the cluster that it is in.

The kubeconfig's copy, of this one context, lies beside it (0600), with Vault's keys.  Losing
the folder loses the keys; what is in the cluster can still be taken away (see ``claim``).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.foreign.claim import Claim
from labkit.paths import LabPaths, write_private

if TYPE_CHECKING:
    from labkit.foreign.target import Target


@dataclass(frozen=True)
class Kept:
    """``source`` is the kubeconfig that was given, ``context`` its context, ``server`` the
    address there, ``owner`` the lab's word in the cluster."""

    source: str
    context: str
    server: str
    owner: str

    def claim(self, lab: str) -> Claim:
        return Claim(lab, self.owner)

    def write(self, paths: LabPaths, target: Target | None = None) -> None:
        """Keep it, and the kubeconfig of ``target``.  Raises OSError."""
        if target is not None:
            write_private(paths.kubeconfig, target.config)
        write_private(paths.cluster, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, paths: LabPaths) -> Kept | None:
        """What the lab's folder says; None for a lab with a cluster of its own.

        Raises LabError when it cannot be made out.
        """
        try:
            return cls(**json.loads(paths.cluster.read_text()))
        except (FileNotFoundError, NotADirectoryError):  # whoever makes the folder says more
            return None
        except (OSError, ValueError, TypeError) as error:
            raise LabError(
                "What this lab's folder says of its cluster cannot be read",
                seen=f"{paths.cluster}: {type(error).__name__}",
                todo=f"`labkit down --name {paths.name} --kubeconfig FILE --context NAME` takes it "
                f"away from the cluster, with --forget from this machine.",
            ) from error
