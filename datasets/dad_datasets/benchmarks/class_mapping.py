"""From the classes of a benchmark to the classes of a student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dad_datasets.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentClasses:
    """How many classes a student tells apart, and their names in order where they are known."""

    count: int
    names: tuple[str, ...] | None = None

    def find(self, reference: int | str, *, origin: str) -> int:
        """The index of a class given by index or by name. UserError where the student has no such class."""
        if isinstance(reference, int):
            if not 0 <= reference < self.count:
                raise UserError(f"{origin}: the student has the classes 0 to {self.count - 1}, not {reference}")
            return reference
        if self.names is None:
            raise UserError(f"{origin}: {reference!r} is a name, but the student's are not known; give indices")
        if reference not in self.names:
            raise UserError(f"{origin}: the student has no class {reference!r}; it has {_shown(self.names)}")
        return self.names.index(reference)


def map_folders(
    folders: Sequence[str],
    classes: Mapping[int | str, int | str],
    student: StudentClasses,
    *,
    ignore_unmapped: bool,
    origin: str,
) -> dict[str, int]:
    """The student's class of each mapped folder.

    UserError for a name in `classes` that is no folder, a folder without a class (unless ignored), an unknown class.
    """
    mapped = {str(folder): student.find(target, origin=origin) for folder, target in classes.items()}
    if absent := sorted(set(mapped) - set(folders)):
        raise UserError(f"{origin}: there is no folder {absent[0]} for the mapping; there are {_shown(folders)}")
    unmapped = [folder for folder in folders if folder not in mapped]
    if unmapped and not ignore_unmapped:
        raise UserError(
            f"{origin}: folder {unmapped[0]} has no class"
            + (f" (nor have {len(unmapped) - 1} others)" if len(unmapped) > 1 else "")
            + "; map it in classes, or set ignore_unmapped"
        )
    return mapped


def map_labels(
    class_names: Sequence[str] | None,
    classes: Mapping[int | str, int | str],
    student: StudentClasses,
    *,
    origin: str,
) -> dict[int, int]:
    """The student's class for each label of a source whose classes may have names. UserError as `map_folders`."""
    mapped = {}
    for given, target in classes.items():
        if isinstance(given, int):
            label = given
        elif class_names is not None and given in class_names:
            label = class_names.index(given)
        else:
            known = f"it has {_shown(class_names)}" if class_names else "its classes have no names; give labels"
            raise UserError(f"{origin}: the source has no class {given!r}; {known}")
        mapped[label] = student.find(target, origin=origin)
    return mapped


def check_same_labels(
    class_names: Sequence[str] | None, student: StudentClasses, *, origin: str, remedy: str = "map the names in classes"
) -> None:
    """UserError where labels taken as they are would be wrong.

    A class that both know by name has another number for the student, as where a class folder before it is missing or
    folders are ordered otherwise; or no name is common to both, and neither is their number.
    """
    if not class_names or student.names is None or tuple(class_names) == student.names:
        return
    known = set(student.names)
    for number, name in enumerate(class_names):
        there = student.names[number] if number < student.count else "none"
        if name in known and name != there:
            raise UserError(f"{origin}: class {number} is {name} here and {there} for the student; {remedy}")
    if known.isdisjoint(class_names) and len(class_names) != student.count:
        raise UserError(
            f"{origin}: has the {len(class_names)} classes {_shown(class_names)}, the student {student.count} others, "
            f"{_shown(student.names)}; {remedy}"
        )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
