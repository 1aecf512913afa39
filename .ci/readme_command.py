"""Print a command of the README, so that what is checked is what readers copy.

`python .ci/readme_command.py run|test` prints the first or the second fenced block marked `sh` under "Set-up".
"""

import re
import sys
from pathlib import Path


def main() -> None:
    """Print the block named by the first argument."""
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    print(blocks[{"run": 0, "test": 1}[sys.argv[1]]], end="")


if __name__ == "__main__":
    main()
