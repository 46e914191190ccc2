"""The last passes: loop nests to LLVM IR and PTX. The only place that imports llvmlite."""
