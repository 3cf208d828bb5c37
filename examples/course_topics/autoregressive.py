"""One cell after another: perceptrons with masks, recurrent networks, transformers, convolutions."""

import numpy as np
from matplotlib import pyplot

import probgen as pg
from course_topics.register import topic
from probgen import plots


@topic(
    "Masked autoregressive networks (MADE)",
    "Redes autorregresivas enmascaradas (MADE)",
    "A density as a product of conditionals, column by column, all of them said by one masked network.",
    "La densidad como producto de condicionales, columna a columna, todas dadas por una sola red con máscaras.",
    models=["made"],
    source="Germain, Gregor, Murray and Larochelle (2015)",
    steps=3,
)
def made(steps=1500):
    digits = pg.Table.from_images(pg.load_dataset("digits").images() > 7.5)
    train, test = digits.split(0.8, 0.2, seed=0)
    fit = pg.fit("made", train, hidden=(256,), learning_rate=3e-3, max_steps=steps, seed=0, progress=False)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
    plots.images(train.take(range(64)), columns=8, title="Digits", axes=left)
    plots.images(fit.sample(64, seed=1), columns=8, title="Drawn pixel by pixel", axes=right)
    return figure, {"nats a picture": fit.log_prob(test).mean().value}


@topic(
    "Recurrent networks (RNN)",
    "Redes recurrentes (RNN)",
    "Each step given a state that is carried along: what came before is summed up in a vector.",
    "Cada paso dado un estado que se arrastra: lo anterior queda resumido en un vector.",
    models=["recurrent"],
    source="Cho et al. (2014); Hochreiter and Schmidhuber (1997)",
    steps=3,
    draws=20,
)
def recurrent(steps=500, draws=300):
    rng, time = np.random.default_rng(0), np.arange(100)
    waves = [
        np.sin(2 * np.pi * (time / period + rng.random())) + rng.normal(0, 0.1, 100)
        for period in rng.uniform(12, 30, 200)
    ]
    table = pg.Table.from_sequences(waves, kind="real", names=["wave"])
    fit = pg.fit("recurrent", table, width=32, learning_rate=5e-3, max_steps=steps, seed=0, progress=False)
    axes = plots.forecast(fit, table.take([0]), 40, draws=draws)
    return axes[0].figure, {"nats a step": fit.log_prob(table.take(range(20))).mean().value / 100}


def in_words(number):
    """A number below a thousand in English."""
    small = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
    tens = "twenty thirty forty fifty sixty seventy eighty ninety"
    hundreds, rest = divmod(number, 100)
    words = [small.split()[hundreds - 1] + " hundred"] if hundreds else []
    if rest >= 20:
        words.append(tens.split()[rest // 10 - 2] + ("-" + small.split()[rest % 10 - 1] if rest % 10 else ""))
    elif rest:
        words.append(small.split()[rest - 1])
    return " and ".join(words)


@topic(
    "Transformers that write (GPT)",
    "Transformers que escriben (GPT)",
    "Each token given all those before it, which attention looks at; here the letters of numbers in words.",
    "Cada token dados todos los anteriores, que la atención consulta; aquí, las letras de números en palabras.",
    models=["transformer"],
    source="Vaswani et al. (2017); Radford et al. (2019)",
    steps=3,
    draws=3,
)
def transformer(steps=700, draws=100):
    numbers = np.random.default_rng(0).permutation(np.arange(1, 1000))
    seen, unseen = ([in_words(number) for number in some] for some in (numbers[:800], numbers[800:]))
    table = pg.Table.from_text(seen)
    fit = pg.fit("transformer", table, context=40, learning_rate=3e-3, max_steps=steps, seed=0, progress=False)
    figure, axes = pyplot.subplots(figsize=(9, 3), layout="constrained")
    for line, text in enumerate(unseen[:8]):  # the redder a letter, the more it surprised
        letters = pg.Table.from_text([text], schema=table.schema)
        for place, (letter, nats) in enumerate(zip(text + "¶", pg.step_surprise(fit, letters), strict=True)):
            axes.text(place, -line, letter, ha="center", family="monospace", backgroundcolor=pyplot.cm.OrRd(nats / 4))
    axes.set(xlim=(-1, 36), ylim=(-7.7, 0.7), title="Numbers it never saw: red letters were hard to guess")
    axes.axis("off")
    made_up = pg.continue_text(fit, "", 40, draws=draws)
    right = np.mean([text in {in_words(number) for number in range(1, 1000)} for text in made_up])
    return figure, {
        "share of made-up texts that are numbers": right,
        "bits a letter": pg.text_score(fit, unseen).bits_per_character,
    }


@topic(
    "Masked transformers (BERT)",
    "Transformers enmascarados (BERT)",
    "Some cells are hidden, and a transformer that looks at all others says them: any cells given any.",
    "Se ocultan algunas celdas y un transformer que mira todas las demás las predice: cualesquiera dadas cualesquiera.",
    models=["masked_transformer"],
    source="Devlin et al. (2019); Uria, Murray and Larochelle (2014)",
    steps=2,
    draws=1,
)
def masked_transformer(steps=300, draws=5):
    digits = pg.Table.from_images(pg.load_dataset("digits").images() > 7.5)
    train, test = digits.split(0.8, 0.2, seed=0)
    fit = pg.fit(
        "masked_transformer",
        train,
        hidden=(32, 32),
        learning_rate=3e-3,
        batch_size=64,
        max_steps=steps,
        progress=False,
    )
    holes, hidden = pg.ampute(test.take(range(6)), 0.5, seed=0)
    filled = fit.fill(holes, draws=draws, seed=0)
    axes = plots.inpainting(holes, filled, test.take(range(6)))
    return axes.figure, {"hidden pixels that are right": (filled[0].values == test.values[:6])[hidden].mean()}


@topic(
    "Convolutions pixel by pixel (PixelCNN)",
    "Convoluciones píxel a píxel (PixelCNN)",
    "A picture is said row by row; convolutions see what is above and to the left.",
    "La imagen se escribe fila por fila; las convoluciones ven lo de arriba y lo de la izquierda.",
    models=["pixel_cnn"],
    source="van den Oord et al. (2016); Salimans et al. (2017)",
    steps=2,
    each=1,
)
def pixel_cnn(steps=250, each=6):
    digits = pg.load_dataset("digits")
    train, test = digits.split(0.9, 0.1, seed=0)
    fit = pg.fit(
        "pixel_cnn", train, hidden=(24, 24), batch_size=64, learning_rate=5e-3, max_steps=steps, seed=0, progress=False
    )
    levels = list(digits.schema["target"].levels)
    drawn = np.stack([fit.sample(each, given={"target": level}).images()[..., 0] for level in levels], axis=1)
    axes = plots.picture_rows(drawn, columns=levels, title="Drawn given the digit, pixel by pixel")
    return axes.figure, {"nats a picture": fit.log_prob(test).mean().value}


@topic(
    "Encoder and decoder: one sequence given another",
    "Codificador y decodificador: una secuencia dada otra",
    "One transformer reads, another says: here pictures are read and their names are said, letter by letter.",
    "Un transformer lee y otro dice: aquí se leen imágenes y se dicen sus nombres, letra por letra.",
    models=["conditional_transformer"],
    source="Vaswani et al. (2017)",
    steps=3,
)
def conditional_transformer(steps=300):
    digits = pg.load_dataset("digits")
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    words = [names[int(digit)] for digit in digits.column("target")]
    table = pg.Table.from_parts({"photo": pg.Pictures(digits.images(), levels=17), "word": pg.Texts(words)})
    train, test = table.split(0.8, 0.2, seed=0)
    fit = pg.fit(
        "conditional_transformer", train, inputs="photo", width=32, learning_rate=3e-3, max_steps=steps, progress=False
    )
    said = fit.most_probable(test.hide("word"), beams=3).texts("word")
    right = np.mean([one == other for one, other in zip(said, test.texts("word"), strict=True)])
    axes = plots.picture_rows(
        test.images()[None, :9, ..., 0], columns=said[:9], title="Read, and said letter by letter"
    )
    return axes.figure, {"names that are right": right}
