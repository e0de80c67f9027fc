"""Systems as graphs: specification, validation, compilation, execution. Pure Python."""
