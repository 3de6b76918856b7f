"""Feed broken input to the command line and count what goes wrong.

python tests/fuzz                          # everything; minutes
python tests/fuzz --only damages --seed 1 --few 60
python tests/fuzz --write docs/reliability.md
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fuzz.harness import main

sys.exit(main())
