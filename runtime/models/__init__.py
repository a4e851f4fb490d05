"""One file a family of models: preprocess, predict, postprocess."""
