"""The type of an embedding."""

import numpy as np
import numpy.typing as npt

# Of L2 norm 1, `[dimension]`.
Vector = npt.NDArray[np.float32]
