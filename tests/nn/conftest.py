"""One thread for every network here: the suite runs several processes."""

import torch

torch.set_num_threads(1)
