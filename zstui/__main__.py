import sys

from zstui.cli import main

if __name__ == "__main__":
    sys.exit(main())
