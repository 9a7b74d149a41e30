"""One lab for this package, in a state folder of its own, deployed by Argo CD from Git."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from argocd.world import World
from labkit import lab as labs
from labkit import lifeline
from labkit.paths import cache_dir


@pytest.fixture(scope="package")
def built() -> Iterator[World]:
    """A lab, up; what is deployed in it is the tests' own business."""
    with (
        lifeline.temporary() as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("LABKIT_CACHE", str(cache_dir().absolute()))  # whatever HOME is below
        patch.setenv("LABKIT_STATE", str(folder))
        # A developer's own settings of git (signing, hooks) are not what is tested.
        patch.setenv("HOME", str(folder))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        yield World(labs.up("argo", progress=print))


@pytest.fixture
def world(built: World) -> Iterator[World]:
    """The platform, green, and made so again afterwards."""
    built.heal()
    yield built
    built.heal()
