"""How a program becomes machine code: functions from IR to IR, and from IR to LLVM's text."""
