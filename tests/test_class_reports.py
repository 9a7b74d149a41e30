"""A class: what a report holds, how a stranger's is read, and what a teacher sees.

No lab is needed.  What needs two users of the system is skipped where the tests do not run
as root.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import course
from labkit.classroom import box, figures, seat
from labkit.classroom import report as reports
from labkit.classroom.report import Report
from labkit.errors import LabError, UsageError
from labkit.paths import LabPaths
from labkit.position import Position
from labkit.position import write as write_position
from labkit.progress import Book, Entry, Progress, parse

ANNA, BERT = 60001, 60002
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An open class."""
    return box.open_box(tmp_path / "class")


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    """The state of a learner's lab, which need not run."""
    return LabPaths("lab", tmp_path / "state" / "lab")


def report_of(
    name: str = "Anna",
    entries: dict[str, Entry] | None = None,
    *,
    lesson: int | None = 3,
    changed_at: float = 1000.0,
    begun: dict[str, tuple[float, ...]] | None = None,
) -> Report:
    return Report(name, lesson, changed_at, Progress(entries or {}, {}, begun or {}))


# -- the time of a checkpoint ----------------------------------------------------------


def test_a_checkpoint_takes_from_what_was_before_it_to_its_passing() -> None:
    progress = Progress(
        {
            "03/store": Entry(attempts=1, begun_at=400, passed_at=400),  # at the first look
            "03/team": Entry(attempts=2, begun_at=450, passed_at=700),
            "03/limit": Entry(attempts=1, begun_at=800),
            "04/shape": Entry(attempts=1, begun_at=50, passed_at=60),
        },
        begun={"03": (100, 550, 900)},  # taken up again after one, and after the other
    )
    assert progress.seconds(3, "store") == 300
    assert progress.seconds(3, "team") == 150
    assert progress.seconds(3, "limit") is None
    assert progress.seconds(4, "shape") is None  # kept by a labkit that noted no beginning


def test_the_book_notes_beginnings_and_older_files_load(tmp_path: Path) -> None:
    told: list[Progress] = []
    book = Book(tmp_path / "progress.json", told.append)
    book.file.write_text('{"version": 1, "checkpoints": {"01/policy": {"attempts": 2}}}')
    book.begun(1)
    book.checked(1, "policy", passed=True)
    found = book.read()
    assert found.of(1, "policy").attempts == 3
    assert 0 <= (found.seconds(1, "policy") or -1) < 60
    assert told[-1] == found
    assert parse(json.dumps(found.to_json())) == found
    for _ in range(30):
        book.begun(2)
    assert len(book.read().begun["02"]) == 20


# -- what a report holds ---------------------------------------------------------------


def test_a_report_has_names_of_checkpoints_counts_and_times_and_nothing_else(
    place: Path, paths: LabPaths
) -> None:
    names = {"store": "a-name-of-annas-own"}
    write_position(paths.position, Position(3, "role", names))
    seat.join(paths, place, "Anna")
    book = seat.book(paths)
    book.begun(3)
    book.checked(3, "store", passed=False)
    book.hinted(3, "store", 2)
    book.answered(3, 1, right=False)
    (file,) = place.glob("seat-*")
    written = file.read_bytes()
    found = json.loads(written)
    entry = found["checkpoints"].pop("03/store")
    assert set(entry) == {"attempts", "hints", "solved", "begun_at", "passed_at"}
    begun = found["begun"].pop("03")
    assert all(isinstance(each, float) for each in begun)
    assert isinstance(found.pop("changed_at"), float)
    assert found == {"version": 1, "seat": "Anna", "lesson": 3, "checkpoints": {}, "begun": {}}
    for private in (b"annas-own", b"quiz", b"false}", str(paths.root).encode()):
        assert private not in written.replace(b'"solved": false', b"")
    ((uid, read),) = box.read(place).reports
    assert uid == os.geteuid()
    assert read.progress.entries == book.read().entries
    assert not read.progress.quizzes


BROKEN: dict[str, Callable[[dict[str, Any]], object]] = {
    "another version": lambda r: r.update(version=2),
    "a version that is true": lambda r: r.update(version=True),
    "one field more": lambda r: r.update(answers=["x"]),
    "one field less": lambda r: r.pop("begun"),
    "an escape in the name": lambda r: r.update(seat="\x1b[2J"),
    "a turned name": lambda r: r.update(seat="Anna\u202egnp.exe"),
    "half a character": lambda r: r.update(seat="\ud800"),
    "a new line in the name": lambda r: r.update(seat="a\nseat file"),
    "a long name": lambda r: r.update(seat="x" * 41),
    "no name": lambda r: r.update(seat=""),
    "a list for a name": lambda r: r.update(seat=["Anna"]),
    "a lesson that is true": lambda r: r.update(lesson=True),
    "a lesson below none": lambda r: r.update(lesson=-1),
    "no time": lambda r: r.update(changed_at=float("nan")),
    "endless time": lambda r: r.update(changed_at=float("inf")),
    "a time far away": lambda r: r.update(changed_at=1e300),
    "a huge time": lambda r: r.update(changed_at=10**400),
    "a time in words": lambda r: r.update(changed_at="now"),
    "checkpoints in a list": lambda r: r.update(checkpoints=[]),
    "a checkpoint of another name": lambda r: r.update(checkpoints={"03/\x1b]0;x\x07": {}}),
    "a checkpoint's name and a line": lambda r: r["checkpoints"].update({"03/store\n": {}}),
    "a field more in a checkpoint": lambda r: r["checkpoints"]["03/store"].update(answer="x"),
    "looks that are half": lambda r: r["checkpoints"]["03/store"].update(attempts=0.5),
    "too many looks": lambda r: r["checkpoints"]["03/store"].update(attempts=10**9),
    "solved by a word": lambda r: r["checkpoints"]["03/store"].update(solved="yes"),
    "begun in no list": lambda r: r.update(begun={"03": 5}),
    "begun in words": lambda r: r.update(begun={"03": ["x"]}),
    "another lesson's number": lambda r: r.update(begun={"٠٣": []}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_quite_a_report_is_refused(name: str) -> None:
    found = json.loads(reports.write(report_of(entries={"03/store": Entry(1)})))
    BROKEN[name](found)
    with pytest.raises(ValueError, match=r"^[\x20-\x7e]+$") as said:
        reports.read(json.dumps(found).encode())
    assert "Anna" not in str(said.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"null", b"[" * 60_000, b"9" * 60_000, b" " * (reports.LIMIT + 1)],
    ids=["empty", "bytes", "null", "deep", "long", "large"],
)
def test_what_is_no_report_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^it"):
        reports.read(data)


def test_a_hostile_box_becomes_a_line_for_each_file(place: Path, tmp_path: Path) -> None:
    def name(number: int, uid: int | None = None) -> Path:
        return place / f"seat-{os.geteuid() if uid is None else uid}-{number:032x}.json"

    good = reports.write(report_of("Zoë [red]"))
    name(0).write_bytes(good)
    os.mkfifo(name(1))  # nobody ever writes to it
    private = tmp_path / "private"
    private.write_bytes(good)
    name(2).symlink_to(private)
    name(3).mkdir()
    name(4).hardlink_to(private)
    name(5, uid=os.geteuid() + 1).write_bytes(good)
    name(6).write_bytes(good + b" " * reports.LIMIT)
    (place / "\x1b]0;owned\x07\n\u202e.json").write_bytes(good)
    (place / ("y" * 200)).write_bytes(good)
    (place / ".seat-being-written.new").write_bytes(b"half")
    if os.geteuid() == 0:
        os.mknod(name(7), stat.S_IFCHR | 0o666, os.makedev(1, 5))  # endless zeros
    found = box.read(place)
    assert [read.seat for _, read in found.reports] == ["Zoë [red]"]
    assert len(found.problems) == 8 + (os.geteuid() == 0)
    text = figures.as_text(figures.of(found.reports, course.LESSONS, 1000, found.problems), ())
    for line in found.problems:
        assert line.startswith("seat file ")
        assert line.isprintable()
        assert line in text
    assert "Zoë [red]" in text


def test_a_box_that_somebody_fills_is_looked_at_in_part(place: Path) -> None:
    for number in range(1100):
        (place / f"junk-{number:05}").touch()
    problems = box.read(place).problems
    assert problems[0].startswith("Only 1000 of ")
    assert len(problems) <= 1001


# -- what a teacher makes of it --------------------------------------------------------


def test_the_figures_of_a_class() -> None:
    now = 100_000.0
    lesson = course.find(3)
    first, second = lesson.exercises[0].name, lesson.exercises[1].name

    def passed(after: float, **more: Any) -> Entry:
        return Entry(attempts=1, begun_at=after, passed_at=after, **more)

    begun = {"03": (1000.0,)}
    found = [
        (1, report_of("quick", {f"03/{first}": passed(1060)}, begun=begun, changed_at=now - 30)),
        (2, report_of("slow", {f"03/{first}": passed(1660, hints=2)}, begun=begun, changed_at=now)),
        (
            3,  # had it played: no measure of how hard it is
            report_of(
                "played", {f"03/{first}": passed(1001, solved=True)}, begun=begun, changed_at=now
            ),
        ),
        (4, report_of("trying", {f"03/{first}": Entry(attempts=5)}, begun=begun, changed_at=now)),
        (5, report_of("away", begun=begun, changed_at=now - 900)),
        (6, report_of("elsewhere", lesson=None, changed_at=now - 9000)),
        (7, report_of("quick", {"99/of-another-course": passed(5)}, lesson=99, changed_at=now + 9)),
    ]
    made = figures.of(found, course.LESSONS, now)
    assert [(row.seat, row.passed, row.minutes, row.stuck) for row in made.rows] == [
        ("quick", 1, 0, ""),
        ("slow", 1, 0, ""),
        ("played", 1, 0, ""),
        ("trying", 0, 0, f"{first}: 5 looks"),
        ("away", 0, 15, "no change"),
        ("elsewhere", 0, 150, ""),
        ("quick", 0, 0, ""),
    ]
    assert {each.lesson for each in made.checkpoints} == {3}
    of_first = next(each for each in made.checkpoints if each.name == first)
    assert (of_first.seats, of_first.passed, of_first.rate) == (5, 3, 0.6)
    assert (of_first.minutes, of_first.hints, of_first.solutions) == (6.0, 2, 1)
    of_second = next(each for each in made.checkpoints if each.name == second)
    assert (of_second.passed, of_second.minutes) == (0, None)
    text = figures.as_text(made, course.LESSONS)
    assert f"stuck? {first}: 5 looks" in text
    assert "quick (user 1)" in text
    assert "quick (user 7)" in text
    assert "60%" in text


def test_no_seat_is_a_formula_in_a_spreadsheet() -> None:
    name = "=cmd|' /c calc'!A1"
    lesson = course.find(1).exercises[0].name
    text = figures.as_csv([(1, report_of(name, {f"01/{lesson}": Entry(1)}))], course.LESSONS)
    assert text.splitlines()[1].startswith(f"'{name},1,01/{lesson},1,")


# -- the learner's end -----------------------------------------------------------------


def test_a_class_never_disturbs_its_lessons(place: Path, paths: LabPaths) -> None:
    seat.join(paths, place, "Anna")
    assert paths.seat.stat().st_mode & 0o777 == 0o600
    book = seat.book(paths)
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    book.checked(1, "policy", passed=False)  # the folder is gone
    place.write_text("something else")
    book.checked(1, "policy", passed=False)
    place.unlink()
    place.symlink_to("/dev/full")
    book.checked(1, "policy", passed=False)
    paths.seat.write_text('{"half')
    book.checked(1, "policy", passed=True)
    assert book.read().of(1, "policy").attempts == 4
    paths.seat.write_text(json.dumps({"name": "\x1b", "folder": str(place), "file": "../../x"}))
    book.checked(1, "policy", passed=True)


def test_joining_another_class_leaves_the_first(
    place: Path, paths: LabPaths, tmp_path: Path
) -> None:
    other = box.open_box(tmp_path / "other")
    seat.join(paths, place, "Anna")
    seat.join(paths, place, "Annika")  # the same seat under another name
    assert [read.seat for _, read in box.read(place).reports] == ["Annika"]
    seat.join(paths, other, "Anna")
    assert box.read(place).reports == ()
    assert len(box.read(other).reports) == 1
    with pytest.raises(UsageError, match="no class's drop box"):
        seat.join(paths, tmp_path, "Anna")
    with pytest.raises(UsageError, match="can be shown"):
        seat.join(paths, place, "A\x1b[31m")
    assert seat.leave(paths)
    assert seat.leave(paths) is None
    assert box.read(other).reports == ()
    seat.book(paths).checked(1, "policy", passed=True)
    assert box.read(other).reports == ()


def test_only_a_box_is_closed_and_only_a_new_folder_opened(place: Path, tmp_path: Path) -> None:
    assert box.open_box(place) == place  # again
    (tmp_path / "mine").touch()
    with pytest.raises(UsageError, match="holds something else"):
        box.open_box(tmp_path)
    with pytest.raises(UsageError, match="no class's drop box"):
        box.remove(tmp_path)
    with pytest.raises(UsageError, match="is no folder"):
        box.open_box(tmp_path / "mine")
    with pytest.raises(UsageError, match="cannot be made"):
        box.open_box(tmp_path / "not" / "there")
    box.remove(place)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


# -- two users -------------------------------------------------------------------------


@pytest.fixture
def open_way() -> Iterator[Path]:
    """A folder that others may enter, which those of pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="lk-class-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def sh(user: int, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", text],
        user=user,
        group=user,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


@needs_root
def test_a_seat_can_be_read_by_the_teacher_and_by_no_other_seat(open_way: Path) -> None:
    place = box.open_box(open_way / "class")
    name = f"seat-{ANNA}-{7:032x}.json"
    mine = place / name
    put = f"umask 0; cat > {mine} && chmod {box.REPORT_MODE:o} {mine}"
    done = subprocess.run(
        ["/bin/sh", "-c", put],
        input=reports.write(report_of()),
        user=ANNA,
        group=ANNA,
        extra_groups=[],
        check=False,
    )
    assert done.returncode == 0
    assert mine.stat().st_gid == place.stat().st_gid
    # Even whoever knows the name, which nobody else does:
    for attempt in (
        f"ls {place}",
        f"cat {mine}",
        f"echo x > {mine}",
        f"rm -f {mine}",
        f"mv {mine} {place}/x",
        f"echo x > {place}/y && mv -f {place}/y {mine}",
        f"chmod 666 {mine}",
        f"rm -f {place}/.labkit-class.json",
    ):
        assert sh(BERT, attempt).returncode != 0, attempt
    sh(BERT, f"ln -s {mine} {place}/seat-{BERT}-{9:032x}.json")
    assert [(uid, read.seat) for uid, read in box.read(place).reports] == [(ANNA, "Anna")]
    # A folder of Bert's with something in it cannot keep the class from being closed.
    sh(BERT, f"mkdir -p {place}/deep/er")
    with pytest.raises(LabError, match="closed, and its folder is still there"):
        box.remove(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert [path.name for path in place.iterdir() if path.is_file()] == [".labkit-class.json"]


# -- the command line ------------------------------------------------------------------


def test_a_class_from_its_opening_to_its_end(tmp_path: Path) -> None:
    env = {**os.environ, "LABKIT_STATE": str(tmp_path / "state"), "COLUMNS": "200"}

    def labkit(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "labkit", *map(str, words)],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    place = tmp_path / "our class"
    opened = labkit("class", "open", place)
    assert opened.returncode == 0, opened.stderr
    assert f"labkit join '{place}' --seat NAME" in opened.stdout
    assert stat.S_IMODE(place.stat().st_mode) == box.MODE
    joined = labkit("join", place, "--seat", "Anna")
    assert "as Anna" in joined.stdout, joined.stderr
    watching = subprocess.Popen(
        [sys.executable, "-m", "labkit", "class", place, "--watch", "1"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert watching.stdout.readline().startswith("seat ")
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert "Traceback" not in said
    (row,) = json.loads(labkit("class", place, "--json").stdout)["seats"]
    assert (row["seat"], row["passed"], row["lesson"]) == ("Anna", 0, None)
    closed = labkit("class", "close", place)
    assert closed.returncode == 0, closed.stderr
    assert not place.exists()
    assert (tmp_path / "our class.csv").read_text().startswith("seat,user,checkpoint,")
    late = labkit("join")
    assert (late.returncode, "Ask your teacher" in late.stderr) == (1, True)
