"""Pictures that a job made, as a terminal can show them. Every byte of them is a stranger's."""
