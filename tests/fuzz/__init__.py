"""Every decoder of bytes that a stranger may have chosen, with its contract, for hypothesis and a guided fuzzer alike."""
