"""Teachers: pixels in [0,1] to logits, whatever model is behind them."""

from dad_pipeline.teachers.loading import load_teacher
from dad_pipeline.teachers.settings import TeacherSettings
from dad_pipeline.teachers.teacher import Teacher

__all__ = ["Teacher", "TeacherSettings", "load_teacher"]
