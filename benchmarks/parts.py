"""The parts of a run that the benchmarks of training share, without the run's folder."""


def prepare_setup(config, cached=False):
    """Returns the `Setup` of a configuration and the frozen trunk: None, unless the network is cut for caching."""
    import keras

    from jtln_tf.backbones import identify_backbone, is_untrained
    from jtln_tf.experiment.assembly import build_run_network, load_run_domains
    from jtln_tf.methods.base import Setup
    from jtln_tf.network import cut_network

    keras.utils.set_random_seed(config.training.seed)
    domains = load_run_domains(config)
    network = build_run_network(config, domains)
    trunk, trained = cut_network(network, config.network.freeze_until) if cached else (None, network)
    setup = Setup(
        domains=domains,
        network=network,
        inputs=domains,
        trained=trained,
        cost=config.cost,
        augmentation=config.data.augmentation,
        backbone=identify_backbone(config.network),
        is_untrained=is_untrained(config.network),
        seed=config.training.seed,
        saved_costs=None,
    )
    return setup, trunk


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
