"""The contract: what the connected side and the air-gapped side must agree on, byte for byte."""
