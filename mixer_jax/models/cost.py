"""What a model's forward pass costs, counted from its program."""

import math

import flax.linen as nn
import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var


def forward_flops(model: nn.Module, image_size: int) -> int:
    """Returns the FLOPs of one image's forward pass: two for each multiply-add of its matrix products and convolutions.

    Biases, norms, activations and additions are left out, as usual. A training step takes three times as much, because
    the gradients with respect to activations and to weights are one product each. (By convention the gradient with
    respect to the pixels is counted too, which nobody computes: less than 3 % of a Mixer, that of S/32.) What
    rematerialisation computes a second time comes on top.

    Args:
      model: the model, with or without a head.
      image_size: height and width of the image, in pixels.
    """
    image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), "float32")
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    return _flops(jax.make_jaxpr(model.apply)(variables, image).jaxpr)


def _flops(program: Jaxpr) -> int:
    total = 0
    for equation in program.eqns:
        kind, parameters = equation.primitive.name, equation.params
        if kind == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            depth = math.prod(_shape(equation.invars[0])[axis] for axis in contracted)
            total += 2 * depth * math.prod(_shape(equation.outvars[0]))
        elif kind == "conv_general_dilated":
            kernel = _shape(equation.invars[1])  # of each output: the window's pixels times the channels of a group
            depth = math.prod(kernel) // kernel[parameters["dimension_numbers"].rhs_spec[0]]
            total += 2 * depth * math.prod(_shape(equation.outvars[0]))
        times = parameters["length"] if kind == "scan" else 1
        for inner in jax.tree.leaves(list(parameters.values()), is_leaf=lambda x: isinstance(x, (ClosedJaxpr, Jaxpr))):
            if isinstance(inner, (ClosedJaxpr, Jaxpr)):
                total += times * _flops(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)
    return total


def _shape(array: Var | Literal) -> tuple[int, ...]:
    return array.aval.shape  # type: ignore[attr-defined]  # JAX's types leave open that it is an array
