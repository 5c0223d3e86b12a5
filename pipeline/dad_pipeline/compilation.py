"""`compute.compile`: a run's networks compiled in place by torch.compile, for the batch size that the recipe fixes."""

from __future__ import annotations

from collections.abc import Iterable
from types import MethodType

import torch
from torch import Tensor, nn

from dad_datasets.torch_devices import require_compiler
from dad_pipeline.quantizer import Quantizer
from dad_pipeline.recipe import ComputeSettings
from dad_pipeline.teachers import Teacher
from dad_pipeline.teachers.pixel_input import PixelInput


def compile_networks(networks: Iterable[Teacher | Quantizer], compute: ComputeSettings, device: torch.device) -> None:
    """Compile what `networks` call, forward and backward, where the recipe asks for it; else leave all as it is.

    Their state dicts and printed structures, and so the hashes of both, stay what they were. Compiling itself takes
    place in the first calls. UserError where torch.compile does not work on this machine.
    """
    if not compute.compile:
        return
    # Before any work; otherwise each unit would fail with it.
    require_compiler(device, otherwise="false (dad expand: --no-compile)")
    for part in {part for network in networks for part in _parts(network)}:
        _compile_for(part, compute.views_per_call)


def _parts(network: Teacher | Quantizer) -> list[nn.Module]:
    """A teacher's classifiers behind their resizes, whose cached matrices would be computed anew in every traced call;
    a quantizer's encoder and decoder, without the search for the nearest code, which is one product."""
    if isinstance(network, Quantizer):
        return [network.encoder, network.decoder]
    pipes = [module for module in network.modules() if isinstance(module, nn.Sequential) and len(module)]
    return [part for pipe in pipes if isinstance(pipe[0], PixelInput) for part in pipe[1:]]


def _compile_for(network: nn.Module, batch_size: int) -> None:
    """Batches of `batch_size` go through the compiled network, smaller ones through the plain one.

    Which of the two a batch meets follows from the batch alone, so the result cannot depend on what a worker did
    before. Smaller batches are a unit's last one and those with a failed view. Compiled for every size that comes,
    they would cost minutes each and meet Dynamo's limit of variants, after which it silently stops compiling. Padded
    to the full size, a batch of r of n views costs the time of n compiled views; as it is, that of r plain ones, which
    is less unless compiling saves more than the padding adds (r above 0.8 n at 1.3 times the speed).
    """
    plain = type(network).forward
    compiled = torch.compile(plain, dynamic=False)

    def forward(self: nn.Module, images: Tensor) -> Tensor:
        return (compiled if len(images) == batch_size else plain)(self, images)

    # A bound method rather than a closure over the network: a deep copy's is then bound to the copy.
    network.forward = MethodType(forward, network)
