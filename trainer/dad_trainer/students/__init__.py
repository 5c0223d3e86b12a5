"""Students: timm classifiers and our ResNets for small images, which importing this package registers with timm."""

from dad_trainer.students import cifar_resnet as _cifar_resnet  # noqa: F401
from dad_trainer.students.loading import load_student
from dad_trainer.students.settings import StudentSettings
from dad_trainer.students.student import Student, build_student, normalise

__all__ = ["Student", "StudentSettings", "build_student", "load_student", "normalise"]
