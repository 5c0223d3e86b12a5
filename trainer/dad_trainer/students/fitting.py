"""Weights of a file put into a network, or the first thing that does not fit."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from dad_datasets.errors import UserError
from dad_trainer.students.weights_file import WeightsFile


def load_weights(network: nn.Module, file: WeightsFile, *, classifiers: tuple[str, ...], reset_head: bool) -> None:
    """The file's weights into `network`. With `reset_head` the modules in `classifiers` keep the weights they have.

    UserError with the first mismatch in the network's order: a weight that is missing, one of another shape, one that
    the network does not have.
    """
    expected: Mapping[str, Tensor] = network.state_dict()
    given = dict(file.weights)
    head = tuple(f"{name}." for name in classifiers)
    if reset_head:
        given = {name: value for name, value in given.items() if not name.startswith(head)}
        given |= {name: value for name, value in expected.items() if name.startswith(head)}
    for name, value in expected.items():
        if name not in given:
            raise UserError(f"checkpoint {file.path}: another architecture: it has no {name}")
        if given[name].shape == value.shape:
            continue
        if name.startswith(head) and given[name].shape[1:] == value.shape[1:]:
            raise UserError(
                f"checkpoint {file.path}: its classifier {name} has {len(given[name])} classes, the data {len(value)}; "
                "student.reset_head: true starts a new one"
            )
        found, wanted = list(given[name].shape), list(value.shape)
        raise UserError(f"checkpoint {file.path}: another architecture: {name} is {found}, expected {wanted}")
    unknown = next((name for name in given if name not in expected), None)
    if unknown is not None:
        raise UserError(f"checkpoint {file.path}: another architecture: it has {unknown}, which the student has not")
    network.load_state_dict(given)
