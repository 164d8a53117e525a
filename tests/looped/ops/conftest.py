import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # `op_cases`, helpers shared by the tests of ops
