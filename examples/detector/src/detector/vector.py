"""The type of an embedding."""

import numpy as np
import numpy.typing as npt

# Shape `[dimension]`, L2 norm 1.
Vector = npt.NDArray[np.float32]
