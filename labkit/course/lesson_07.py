"""Lesson 07: the whole platform from Git, by Argo CD, with no secret in any commit."""

from __future__ import annotations

from labkit.course.lesson_07_bring_up import BRING_UP
from labkit.course.lesson_07_heal import HEAL
from labkit.course.lesson_07_leak import LEAK, NAMES
from labkit.course.lesson_07_mend import MEND
from labkit.course.lesson_07_quiz import QUIZ
from labkit.course.model import Lesson

LESSON = Lesson(
    number=7,
    slug="gitops",
    title="GitOps with Argo CD",
    stage="bare",
    argocd=True,
    begins_with="a cluster with Argo CD and a Git server, whose repository `platform` is empty",
    missing="Vault, ESO, the store and the shop, which all come from Git",
    names=NAMES,
    exercises=(BRING_UP, HEAL, MEND, LEAK),
    quiz=QUIZ,
)
