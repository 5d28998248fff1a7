"""What a language model streams and computes.

A step streams every dense weight once, the experts that its tokens choose, and the keys and
values of each sequence that decodes; it computes two FLOP for each weight and token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


def least(a: float, b: float) -> float:
    """Return the smaller of two numbers, or of each pair in two arrays."""
    return 0.5 * (a + b - abs(a - b))


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """The layers that attend to earlier tokens.

    Attributes:
        layers: Layers that see the whole context.
        window_layers: Layers that see only the last `window_tokens`.
        window_tokens: Their window, tokens.
        query_heads: Query heads of a layer.
        kv_heads: Key/value heads of a layer; 1 where all heads share one latent vector.
        params: Weights of the projections of one layer.
        kv_bytes: Keys and values of one token in one layer, bytes.
        pair_flop: FLOP for one token that attends to one earlier token, in one layer.
        extra_norms: Normalisations a layer has beyond the two of Llama.
        chunked: 1 where layers attend in chunks (Llama 4), which no whole CUDA graph covers.
    """

    layers: int
    window_layers: int
    window_tokens: int
    query_heads: int
    kv_heads: int
    params: int
    kv_bytes: int
    pair_flop: int
    extra_norms: int
    chunked: int

    @property
    def all_layers(self) -> int:
        """Attention layers of either sort."""
        return self.layers + self.window_layers


@dataclass(frozen=True, slots=True)
class ExpertShape:
    """The layers that route each token to some of many experts; all zero for a dense model.

    Attributes:
        layers: Layers with experts.
        count: Experts of a layer.
        per_token: Experts that compute each token.
        params: Weights of one expert in one layer.
    """

    layers: int
    count: int
    per_token: int
    params: int


@dataclass(frozen=True, slots=True)
class StateShape:
    """The layers that keep a state of fixed size per sequence (Mamba); all zero without any.

    Attributes:
        layers: Layers with a state.
        state_bytes: State of one sequence in one layer, bytes.
    """

    layers: int
    state_bytes: int


@dataclass(frozen=True, slots=True)
class WeightPrecision:
    """How the weights are kept.

    Attributes:
        dense_bytes: Mean size of a dense weight, bytes.
        expert_bytes: Size of an expert weight with its scales, bytes.
        dense_fp8: Share of the dense weights that multiply in fp8.
        expert_fp8: 1 where the experts multiply in fp8, else 0.
        block_scaled: 1 where fp8 weights carry a scale per block, else 0.
        expert_fp4: 1 where the experts are mxfp4 or nvfp4, else 0.
    """

    dense_bytes: float
    expert_bytes: float
    dense_fp8: float
    expert_fp8: int
    block_scaled: int
    expert_fp4: int

    def on(self, has_fp8: bool) -> WeightPrecision:
        """Return how these weights multiply: in 16 bit, without scales, on a GPU without fp8."""
        return replace(
            self,
            dense_fp8=self.dense_fp8 * has_fp8,
            expert_fp8=self.expert_fp8 * has_fp8,
            block_scaled=self.block_scaled * has_fp8,
        )


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A language model as the energy roofline sees it.

    Attributes:
        name: How people call it.
        layers: Decoder layers of every sort.
        hidden: Width of the residual stream.
        vocabulary: Entries of the vocabulary.
        dense_params: Weights that every token uses, without embedding and output head.
        head_params: Weights of the output head.
        embedding_params: Weights of the input embedding; 0 where it is tied to the head.
        attention: Its attention layers.
        experts: Its expert layers.
        states: Its layers with a state.
        precision: How its weights are kept.
    """

    name: str
    layers: int
    hidden: int
    vocabulary: int
    dense_params: int
    head_params: int
    embedding_params: int
    attention: AttentionShape
    experts: ExpertShape
    states: StateShape
    precision: WeightPrecision

    @property
    def params(self) -> int:
        """All weights."""
        experts = self.experts
        routed = experts.layers * experts.count * experts.params
        return self.dense_params + self.head_params + self.embedding_params + routed

    @property
    def expert_bytes(self) -> float:
        """Weights of all experts in memory, bytes."""
        experts = self.experts
        return experts.layers * experts.count * experts.params * self.precision.expert_bytes

    @property
    def weight_bytes(self) -> float:
        """All weights in memory, bytes; embedding and head in 16 bit."""
        head = 2.0 * (self.head_params + self.embedding_params)
        return self.dense_params * self.precision.dense_bytes + head + self.expert_bytes

    def sequence_bytes(self, context_tokens: float) -> float:
        """Return keys, values and states of one sequence of this length, bytes."""
        attention = self.attention
        window = least(attention.window_tokens, context_tokens)
        cached = attention.layers * context_tokens + attention.window_layers * window
        return cached * attention.kv_bytes + self.states.layers * self.states.state_bytes
