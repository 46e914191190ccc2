"""What compiled programs run on: loaded code, worker threads and buffers; no operations."""
