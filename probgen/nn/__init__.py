"""Networks; no probability in here."""

from probgen.nn.any_order import CellNetwork, CellTransformer, OrderedMLP, ShownMLP
from probgen.nn.cells import Attention, KnownCells
from probgen.nn.constants import Constants
from probgen.nn.convolution import ConvolutionDecoder, ConvolutionEncoder
from probgen.nn.masked import MaskedMLP
from probgen.nn.mlp import ContextMLP, mlp
from probgen.nn.pixels import PixelNetwork
from probgen.nn.recurrent import BackwardRecurrence, Memory, Recurrence
from probgen.nn.residual import residual
from probgen.nn.timed import TimedMLP, Waves
from probgen.nn.unet import UNet

__all__ = [
    "Attention",
    "BackwardRecurrence",
    "CellNetwork",
    "CellTransformer",
    "Constants",
    "ContextMLP",
    "ConvolutionDecoder",
    "ConvolutionEncoder",
    "KnownCells",
    "MaskedMLP",
    "Memory",
    "OrderedMLP",
    "PixelNetwork",
    "Recurrence",
    "ShownMLP",
    "TimedMLP",
    "UNet",
    "Waves",
    "mlp",
    "residual",
]
