"""How accurate, robust and calibrated students are."""

from dad_trainer.evaluation.result import Result, Summary, summarise
from dad_trainer.evaluation.row_finder import EvaluationProgress
from dad_trainer.evaluation.running import evaluate_student, evaluate_students
from dad_trainer.evaluation.settings import EvaluationRecipe, RunSettings

__all__ = [
    "EvaluationProgress",
    "EvaluationRecipe",
    "Result",
    "RunSettings",
    "Summary",
    "evaluate_student",
    "evaluate_students",
    "summarise",
]
