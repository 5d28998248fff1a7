"""Everything that measurements set in the energy roofline: fitted numbers and their residuals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from steppe.errors import ConfigError
from steppe.roofline.hardware import ClockCurve, GpuSpec
from steppe.roofline.residual_model import Residual


@dataclass(frozen=True, slots=True)
class Coefficients:
    """The numbers that `bench/fit_roofline.py` fits to measurements; one set per GPU.

    Times are seconds at the highest clock. "Times ideal" is measured time over that of the data
    sheet's rate. Energies are shares of the power limit during the ideal time of their cause.

    Attributes:
        weight_stream: Streaming dense weights, times ideal.
        expert_stream: Streaming experts, times ideal.
        fp4_stream: Streaming 4-bit floating-point experts, times that of others.
        cache_stream: Streaming keys, values and states, times ideal.
        dense_compute: Multiplying dense weights, times ideal.
        expert_compute: Multiplying experts, times ideal.
        fp8_compute: Multiplying in fp8, times that at the doubled rate.
        overlap: Exponent with which streaming and computing of one stage overlap.
        routing: How unevenly many small experts are chosen: the tokens that count are
            n (8 / experts)^routing.
        attention_layer_s: Launching an attention layer, s.
        norm_s: Launching one further normalisation, s.
        expert_layer_s: Launching the routing of an expert layer, s.
        state_layer_s: Launching a layer with a state, s.
        chunked_layer_s: More for a layer that attends in chunks, s.
        block_layer_s: More for a layer with block-scaled fp8 weights, s.
        block_expert_s: More for an expert layer with block-scaled fp8 weights, s.
        scaled_layer_s: More for a layer with fp8 weights of one scale, s.
        shard_layer_s: Synchronising the GPUs in one layer, s.
        prefill_attention_s: More for an attention layer in a step that also prefills, s.
        prefill_expert_s: More for an expert layer in such a step, s.
        prefill_state_s: More for a layer with a state in such a step, s.
        link: Exchange of activations between GPUs, times ideal.
        expert_link: More exchange in expert layers, times ideal.
        activation: Bytes moved for each token, layer and 16-bit element of the hidden width.
        routed: Bytes moved for each routed token, times those of its inputs and outputs.
        sample_s: Sampling for one sequence, s.
        vocabulary_s: Sampling one entry of the vocabulary for one sequence, s.
        host_s: Host time of a step, s.
        sequence_s: Host time for each sequence of a step, s.
        crowd_s: More host time of a step for each token of `Host.crowding`, s; it depends on the
            number of CPU cores for each GPU on the measured hosts.
        host_overlap: Exponent with which host and GPU overlap.
        busy: Draw while anything runs beyond the idle draw, share of the limit.
        weight_energy: Of streaming dense weights.
        expert_energy: Of streaming experts.
        cache_energy: Of streaming keys, values and states.
        dense_energy: Of multiplying dense weights.
        expert_compute_energy: Of multiplying experts.
        launch_energy: While launching and sampling, share of the limit.
        shard_energy: While GPUs synchronise, share of the limit.
        block_energy: While fp8 scales are computed, share of the limit.
    """

    weight_stream: float
    expert_stream: float
    fp4_stream: float
    cache_stream: float
    dense_compute: float
    expert_compute: float
    fp8_compute: float
    overlap: float
    routing: float
    attention_layer_s: float
    norm_s: float
    expert_layer_s: float
    state_layer_s: float
    chunked_layer_s: float
    block_layer_s: float
    block_expert_s: float
    scaled_layer_s: float
    shard_layer_s: float
    prefill_attention_s: float
    prefill_expert_s: float
    prefill_state_s: float
    link: float
    expert_link: float
    activation: float
    routed: float
    sample_s: float
    vocabulary_s: float
    host_s: float
    sequence_s: float
    crowd_s: float
    host_overlap: float
    busy: float
    weight_energy: float
    expert_energy: float
    cache_energy: float
    dense_energy: float
    expert_compute_energy: float
    launch_energy: float
    shard_energy: float
    block_energy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted numbers and their residuals.

    Attributes:
        coefficients: By name, as in `GpuSpec.coefficients`.
        curves: How time and draw follow the clock, by name, as in `GpuSpec.clock_curve`.
        residuals: Difference between each measured run and the formula.
    """

    coefficients: Mapping[str, Coefficients]
    curves: Mapping[str, ClockCurve]
    residuals: tuple[Residual, ...]

    def of(self, gpu: GpuSpec) -> Coefficients:
        """Return the coefficients of a GPU.

        Raises:
            ConfigError: There is no set of that name.
        """
        try:
            return self.coefficients[gpu.coefficients]
        except KeyError as error:
            known = ", ".join(sorted(self.coefficients))
            raise ConfigError(
                f"{gpu.name}: coefficients: asked for {gpu.coefficients}, found {known}"
            ) from error

    def curve_of(self, gpu: GpuSpec) -> ClockCurve:
        """Return the clock curve of a GPU.

        Raises:
            ConfigError: There is no curve of that name.
        """
        name = gpu.clock_curve or gpu.coefficients
        if name not in self.curves:
            known = ", ".join(sorted(self.curves))
            raise ConfigError(f"{gpu.name}: clock_curve: asked for {name}, found {known}")
        return self.curves[name]

    def shifted(self, standard_errors: float) -> Calibration:
        """Return it with every clock curve so many standard errors higher; see `ClockCurve`."""
        curves = {name: curve.shifted(standard_errors) for name, curve in self.curves.items()}
        return replace(self, curves=curves)


def with_probed_energies(fitted: Coefficients, gpu: GpuSpec) -> Coefficients:
    """Return coefficients with the energies that probes measured on a GPU, where there are any.

    In the fitted ones a byte of dense weights costs `weight_energy * limit / bandwidth`, a
    FLOP on them `dense_energy * limit / rate`, and a GPU that is only busy draws
    `bare + context + busy * limit`. A measured number replaces its formula; the bytes of experts
    and caches and the FLOPs on experts keep their ratio to those of dense weights.
    """
    limit_w = gpu.power_limit_w
    if gpu.joules_per_byte is not None:
        nominal_j = fitted.weight_energy * limit_w / gpu.bandwidth_bps
        fitted = _streaming_scaled(fitted, gpu.joules_per_byte / nominal_j)
    if gpu.joules_per_flop is not None:
        nominal_j = fitted.dense_energy * limit_w / gpu.half_flops
        fitted = _computing_scaled(fitted, gpu.joules_per_flop / nominal_j)
    if gpu.static_w is not None:
        busy_w = gpu.static_w - gpu.bare_w - gpu.context_w
        fitted = replace(fitted, busy=busy_w / limit_w)
    return fitted


def _streaming_scaled(fitted: Coefficients, times: float) -> Coefficients:
    return replace(
        fitted,
        weight_energy=fitted.weight_energy * times,
        expert_energy=fitted.expert_energy * times,
        cache_energy=fitted.cache_energy * times,
    )


def _computing_scaled(fitted: Coefficients, times: float) -> Coefficients:
    return replace(
        fitted,
        dense_energy=fitted.dense_energy * times,
        expert_compute_energy=fitted.expert_compute_energy * times,
    )
