"""Adam and Adagrad for parameters that are no tables, scenario by scenario.

A scenario's parameters have K places in their first axis, or lie in the scenario's own copy of a module. They are
stepped only when the scenario has data, which is when their gradient is not zero: otherwise weight, moments, count of
steps and decay stay as they are. A step would not leave them alone: Adam's momentum goes on, and L2 in a gradient of
zeros is normalised to nearly a whole step, so that a scenario that is absent for days would lose what it has learned.
Decay is decoupled (Loshchilov & Hutter 2019), towards a parameter's neutral value: 0, or 1 for a factor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from schemas.pipeline_spec import OptimiserKind

BETA1, BETA2 = 0.9, 0.999
ADAM_EPS, ADAGRAD_EPS = 1e-8, 1e-10

# (weight, gradient, first moment, second moment, number of steps) of what is stepped at once
_Part = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Slices:
    """One parameter with its state per slice: moments (of Adagrad the second is the sum of squares) and steps.

    count: slices along the first axis; 1: the whole parameter. is_lazy: leave out slices whose gradient is zero.
    neutral: where decay goes.
    """

    def __init__(self, parameter: nn.Parameter, *, count: int = 1, is_lazy: bool = False, neutral: float = 0.0) -> None:
        self.parameter, self.count, self.is_lazy, self.neutral = parameter, count, is_lazy, neutral
        self.first, self.second = torch.zeros_like(parameter), torch.zeros_like(parameter)
        self.steps_S = torch.zeros(count, device=parameter.device)

    def to_step(self) -> list[_Part]:
        """The slices that have data (all without is_lazy); waits for a GPU where is_lazy."""
        grad = self.parameter.grad
        if grad is None:
            return []
        tensors = (self.parameter.detach(), grad, self.first, self.second)
        slices = [t.unbind(0) if self.count > 1 else [t] for t in tensors]
        parts = list(zip(*slices, self.steps_S.unbind(0), strict=True))
        if not self.is_lazy:
            return parts
        # Most gradients of a slice are not zero: a few of them tell it, unless the slice has no data
        has_data = grad.reshape(self.count, -1)[:, :64].ne(0).any(1).tolist()
        return [part for part, seen in zip(parts, has_data, strict=True) if seen or bool(part[1].any())]

    def mask(self) -> Tensor:
        """1 at slices that have data, 0 at others, in a shape that multiplies the parameter; does not wait."""
        grad = self.parameter.grad
        assert grad is not None
        has_data_S = grad.reshape(self.count, -1).ne(0).any(1).to(grad.dtype)
        return has_data_S.view(self.count, *[1] * (grad.dim() - 1)) if self.count > 1 else has_data_S.squeeze(0)


class SliceOptimiser:
    """Steps the parameters given, as this module says. weight_decay: per unit of learning rate."""

    def __init__(self, slices: Sequence[Slices], kind: OptimiserKind, weight_decay: float) -> None:
        self.slices, self.kind, self.weight_decay = list(slices), kind, weight_decay

    @torch.no_grad()
    def step(self, learning_rate: Tensor | float) -> None:
        """One step from the gradients. learning_rate: a number on a CPU, a scalar on the device on a GPU."""
        alike: dict[float, list[_Part]] = defaultdict(list)
        for one in self.slices:
            if isinstance(learning_rate, Tensor) and one.is_lazy and one.parameter.grad is not None:
                self._step_masked(one, learning_rate)
            else:
                alike[one.neutral] += one.to_step()
        for neutral, parts in alike.items():
            if parts:
                self._step_parts(parts, learning_rate, neutral)

    def _step_parts(self, parts: Sequence[_Part], rate: Tensor | float, neutral: float) -> None:
        """All parts by kernels that take lists of tensors."""
        weights, grads, firsts, seconds, steps = map(list, zip(*parts, strict=True))
        decay = self.weight_decay
        if self.kind == "adam":
            adam(
                weights,
                grads,
                firsts,
                seconds,
                [],
                steps,
                fused=True,
                capturable=isinstance(rate, Tensor),
                decoupled_weight_decay=True,
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=rate,
                weight_decay=decay,
                eps=ADAM_EPS,
                maximize=False,
            )
        else:
            if decay:
                torch._foreach_mul_(weights, 1.0 - rate * decay)
            torch._foreach_addcmul_(seconds, grads, grads)
            roots = torch._foreach_sqrt(seconds)
            torch._foreach_add_(roots, ADAGRAD_EPS)
            changes = torch._foreach_div(grads, roots)
            torch._foreach_mul_(changes, rate)
            torch._foreach_sub_(weights, changes)
        if decay and neutral:
            torch._foreach_add_(weights, rate * decay * neutral)

    def _step_masked(self, one: Slices, rate: Tensor) -> None:
        """The same without a question to the device: slices without data are multiplied by 0 instead of left out."""
        weight, grad, mask = one.parameter, one.parameter.grad, one.mask()
        assert grad is not None
        scale = rate * mask
        weight.sub_(scale * self.weight_decay * (weight - one.neutral))
        if self.kind == "adagrad":
            one.second.addcmul_(grad, grad)
            weight.sub_(scale * grad / one.second.sqrt().add_(ADAGRAD_EPS))
            return
        one.steps_S.add_(mask.flatten())
        steps = one.steps_S.clamp(min=1).view_as(mask)
        one.first.add_(mask * (grad - one.first) * (1.0 - BETA1))
        one.second.add_(mask * (grad.square() - one.second) * (1.0 - BETA2))
        root = (one.second / (1.0 - BETA2**steps)).sqrt_().add_(ADAM_EPS)
        weight.sub_(scale / (1.0 - BETA1**steps) * one.first / root)

    def state_dict(self) -> list[dict[str, Tensor]]:
        """Moments and steps of every parameter, on the CPU."""
        return [{name: getattr(one, name).cpu().clone() for name in _STATE} for one in self.slices]

    def load_state_dict(self, state: Sequence[dict[str, Tensor]]) -> None:
        """Inverse of `state_dict` for the same parameters."""
        for one, saved in zip(self.slices, state, strict=True):
            for name in _STATE:
                getattr(one, name).copy_(saved[name])


_STATE = ("first", "second", "steps_S")


def slices_of(model: nn.Module, parameters: Sequence[nn.Parameter]) -> list[Slices]:
    """The parameters of a model as slices: per scenario where the model has scenarios and the parameter K places.

    A parameter of something else that happens to have K places is cut alike; its slices have data in every step.
    """
    num_towers = getattr(model, "num_towers", None)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    neutral = {
        id(getattr(module, name)): value
        for module in model.modules()
        for name, value in getattr(module, "neutral_values", {}).items()
    }
    found = []
    for parameter in parameters:
        is_copy = ".copies." in f".{names[id(parameter)]}"
        has_axis = not is_copy and parameter.dim() > 0 and parameter.shape[0] == num_towers
        count = parameter.shape[0] if has_axis else 1
        value = neutral.get(id(parameter), 0.0)
        found.append(Slices(parameter, count=count, is_lazy=has_axis or is_copy, neutral=value))
    return found
