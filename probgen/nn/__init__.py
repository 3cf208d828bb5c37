"""Networks; no probability in here."""

from probgen.nn.cells import Attention, KnownCells
from probgen.nn.constants import Constants
from probgen.nn.convolution import ConvolutionDecoder, ConvolutionEncoder
from probgen.nn.mlp import mlp
from probgen.nn.recurrent import BackwardRecurrence, Recurrence
from probgen.nn.residual import residual
from probgen.nn.unet import UNet

__all__ = [
    "Attention",
    "BackwardRecurrence",
    "Constants",
    "ConvolutionDecoder",
    "ConvolutionEncoder",
    "KnownCells",
    "Recurrence",
    "UNet",
    "mlp",
    "residual",
]
