"""The parts of a run that the benchmarks of training share, without the run's folder."""


def prepare_setup(config, cached=False):
    """Returns the configuration with its steps, its `Setup` and, if the network is cut, its `FrozenTrunk`."""
    import keras

    from jtln_tf.experiment.assembly import build_setup, load_run_domains
    from jtln_tf.experiment.workshop import Workshop

    keras.utils.set_random_seed(config.training.seed)
    domains = load_run_domains(config)
    config = config.resolve_steps({side: len(domain.train) for side, domain in domains.items()})
    return config, *build_setup(config, domains, workshop=Workshop(), is_cut=cached)


def compiled_model(config, network, costs=None):
    """Returns the `JointModel` of a network, compiled for the first stage of the configuration's method."""
    from jtln_tf.trainer.model import JointModel
    from jtln_tf.trainer.stages import compile_for_stage

    model = JointModel(network, method=config.method, cost=config.cost, cost_matrix=costs)
    compile_for_stage(model, config.training, config.method.stages(config.training.steps)[0])
    return model


def training_batches(config, domains, steps=None):
    """Returns an iterator over the batches of a run on two domains, a dict by side."""
    from jtln_tf.batches import pair_domains

    names = ("source_batch", "target_batch", "source_augmentation", "target_augmentation")
    options = {name: getattr(config.data, name) for name in names}
    options |= {"seed": config.training.seed, "second_view": config.method.uses_second_view}
    return iter(pair_domains(*domains.values(), steps=steps, **options))
