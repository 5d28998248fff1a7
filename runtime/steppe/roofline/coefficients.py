"""The fitted numbers of the energy roofline."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What `bench/fit_roofline.py` fits to measurements; one set per GPU.

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
        shard_layer_s: Meeting of the GPUs in one layer, s.
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
        crowd_s: More host time of a step for each token of `Host.crowding`, s; it shows how many
            CPUs the hosts of these measurements had for a GPU.
        host_overlap: Exponent with which host and GPU overlap.
        busy: Draw while anything runs beyond the idle draw, share of the limit.
        weight_energy: Of streaming dense weights.
        expert_energy: Of streaming experts.
        cache_energy: Of streaming keys, values and states.
        dense_energy: Of multiplying dense weights.
        expert_compute_energy: Of multiplying experts.
        launch_energy: While launching and sampling, share of the limit.
        shard_energy: While GPUs meet, share of the limit.
        block_energy: While fp8 scales are worked on, share of the limit.
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
