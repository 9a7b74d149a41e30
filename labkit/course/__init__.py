"""The course as data: its lessons, in order."""

from __future__ import annotations

from labkit.course.lesson_00 import LESSON as _00
from labkit.course.lesson_01 import LESSON as _01
from labkit.course.lesson_02 import LESSON as _02
from labkit.course.lesson_03 import LESSON as _03
from labkit.course.lesson_04 import LESSON as _04
from labkit.course.lesson_05 import LESSON as _05
from labkit.course.lesson_06 import LESSON as _06
from labkit.course.lesson_07 import LESSON as _07
from labkit.course.lesson_08 import LESSON as _08
from labkit.course.model import Lesson
from labkit.errors import UsageError

LESSONS: tuple[Lesson, ...] = (_00, _01, _02, _03, _04, _05, _06, _07, _08)


def find(number: int) -> Lesson:
    """The lesson of that number; raises UsageError when there is none."""
    for lesson in LESSONS:
        if lesson.number == number:
            return lesson
    raise UsageError(
        f"There is no lesson {number}",
        todo=f"There are: {', '.join(f'{lesson.number:02}' for lesson in LESSONS)}.",
    )


__all__ = ["LESSONS", "Lesson", "find"]
