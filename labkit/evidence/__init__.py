"""The twelve steps from Git to page, rebuilt from what each program wrote down itself.

``witnesses`` reads the logs as data, ``facts`` gathers them for one ExternalSecret,
``passage`` decides (purely) which lines belong to one passage of the secret, ``steps``
says in words what they prove, and ``story`` shows it.  A step without evidence is told
as not proven, with the reason; nothing is ever filled in from what should have happened.

It starts no rotation: it tells of the latest one.
"""

from labkit.evidence.facts import Subject
from labkit.evidence.steps import steps, story
from labkit.evidence.story import Step, Story

__all__ = ["Step", "Story", "Subject", "steps", "story"]
