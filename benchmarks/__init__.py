"""What guidance costs, measured."""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # PyTorch's profiler says where it starts and stops otherwise
