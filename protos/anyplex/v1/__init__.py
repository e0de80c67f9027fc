"""Generated contracts: one module a .proto file."""
