### What the report says in English. The syntax: https://projectfluent.org/fluent/guide
###
### { $name } is a value, written plainly; { PERCENT($share) } is one in another form:
###   SHORT      three significant digits    COSINE     two decimals                COUNT      a whole number, 2,200
###   PERCENT    62.5 %                      SHARE      the same; "under 0.1 %" for little
###   SETTING    as somebody wrote it, 1e-5  DEGREES    100°
###   FACTOR     a factor by its name        FACTORS    several of them
###   LIST       a, b and c                  FIRST_SIX  the same, at most six of them
### Others take a value apart and use messages of their own: WORD (word-*), SHARES (share-with),
### BY_SEED (seed-*), LARGEST (answer-*), EFFECTS (effects-*), EFFECT_PAIRS (effects-pairs), TIMES (effects-finite), RATIO
### (ratio-*), ALSO (floor-also), SENTENCES and PARTS (sentences of a finding, one by one or as a list), UNASSIGNED (attribution-unassigned and -overlap).
### COUNT also chooses between singular and plural.

## The page: headings, captions, notes

page-figure = figure
page-no_rows = No rows.
page-filter = filter
page-copy = copy
page-copied = copied
page-click = Click a cell to see its layer.
page-layer = layer { $layer }
page-kind = { axis-kind }
section-effects = Does it matter, against the seed?
section-floor = The seed baseline
section-seeds = Over seeds
section-attribution = Is it the method, the data, the seed or the learning rate?
section-similarity = Which models moved alike
section-map = Which models are close to each other?
section-where = Where they moved
section-functions = What they predict
section-concentration = How concentrated it is
section-entries = Which entries move
section-intruders = Whether they keep to the base model's directions
section-chains = Chained trials
section-paths = Along the way
section-connectivity = Lines between models
section-trust = How far to trust it
section-answers = What the models answer
section-trials = Trials
section-numbers = What the numbers mean
section-tables = Where the tables lie
unit-trial =
    { COUNT($count) } { COUNT($count) ->
        [one] trial
       *[other] trials
    }
unit-trials_and_merges =
    { COUNT($trials) } { COUNT($trials) ->
        [one] trial
       *[other] trials
    } and { COUNT($merges) } { COUNT($merges) ->
        [one] merge
       *[other] merges
    }
status-done = done
status-failed = failed
status-blocked = blocked
status-running = running
status-pending = pending
lead = { $adapter }{ $rates } Densities: { $densities }.
lead-state = { $count } { $status }
lead-seeds =
    { COUNT($count) ->
        [one] seed
       *[other] seeds
    } { LIST($seeds) }
studied-recipes =
    { COUNT($count) } { COUNT($count) ->
        [one] recipe
       *[other] recipes
    } ({ LIST($methods) })
studied-after = { $method } after { $parent }
studied-data = data { LIST($data) }
studied-trials = { $amount } ({ LIST($states) })
studied-separator = { " " }·{ " " }
lead-rates =
    { " " }{ COUNT($count) ->
        [one] Learning rate
       *[other] Learning rates
    }: { LIST($rates) }.
page-glossary = Words and numbers
lead-adapter = The base models are held in { $base }; LoRA with r = { $r }, alpha = { SETTING($alpha) }, dropout { SETTING($dropout) } on { $where }{ $stabilised }, unless a recipe says otherwise.
lead-bits_16 = 16 bits ({ $dtype })
lead-bits_4 = 4 bits ({ $type }, { $dtype })
lead-bits_4_double = 4 bits ({ $type }, double, { $dtype })
lead-all_linear = all linear layers
lead-stabilised = , rank-stabilised
grid-effects = Every factor against the seed
grid-effect_pairs = Every two recipes against the seed
grid-differences = Every difference against the seed
grid-floor = What the seed does to each recipe
grid-seeds_like = Like learning rates
grid-seeds_unlike = Unlike learning rates
grid-attribution = Shares of variance
grid-silhouette = Do models lie together?
grid-neighbours = The most similar model of each
grid-map_distances = Distances of models
grid-map_factors = What lies together
grid-where = By layer and module kind
grid-cka_by_layer = Likeness by layer
grid-tokens = The tokens at which predictions differ most
grid-concentration = Concentration
grid-densities = Only the largest values
grid-moved = Entries that moved
grid-shared = Entries that several models keep
grid-intruders = Intruders, and shares in the base model's top directions
grid-chains = Parent, child and whole
grid-paths = Lengths of paths
grid-parting = Where seeds part
grid-barriers = Barriers of the loss
grid-audit = Precision
grid-counted = Entries counted
grid-trials = All trials
grid-printed = Beside what was printed
grid-likelihoods = How likely held-out answers are
grid-cut =
    { COUNT($shown) } of { COUNT($total) } { COUNT($total) ->
        [one] row
       *[other] rows
    }; all: { $file }.
grid-whole =
    All { COUNT($total) } { COUNT($total) ->
        [one] row
       *[other] rows
    }; also: { $file }.
note-printed = Printed values are their sources'; the ratio is measured over printed.
note-likelihoods =
    All { COUNT($count) } { COUNT($count) ->
        [one] model
       *[other] models
    }. The mean log-probability of a token of the answers that each data set has for held-out prompts, in nats.
note-trials = All { $amount }.
marks-marked = marked: { $marks }.{ $compared }
marks-compared = { " " }Compared in { FIRST_SIX($names) }.
trouble = { $status }: { $what }
trouble-unknown = no cause is known
missing-comparisons =
    { COUNT($missing) } of { COUNT($planned) } { COUNT($planned) ->
        [one] planned comparison
       *[other] planned comparisons
    } not measured: { FIRST_SIX($names) }.
answers-none = { $model }: no recipe that starts from the base model has sample answers.
answers-title = Base model { $model }, seed { $seed }
answers-expected = the data
answers-note =
    { COUNT($shown) } of { COUNT($prompts) } { COUNT($prompts) ->
        [one] prompt
       *[other] prompts
    }, { COUNT($recipes) } { COUNT($recipes) ->
        [one] model
       *[other] models
    }; all answers: samples table.
page-search = search prompts and answers
page-more_prompts = show all { $count } prompts
answers-missing = (no answer: { $status })
answers-empty = (empty)
answers-endless = { $text } [did not stop]
merge-said = { $title } ({ $paper }) of { LIST($inputs) }{ $more }.
merge-input = { $model } (weight { SETTING($weight) }{ $kept })
merge-random = , a random share of { SETTING($density) } kept{ $scope }
merge-largest = , the largest { SETTING($density) } kept{ $scope }
merge-all = { $scope }
merge-scope-global = { " " }of the whole task vector
merge-scope-tensor = { " " }of each tensor
merge-scaling = ; lambda { SETTING($scaling) }
merge-seed = ; seed { $seed }
places-parquet = Parquet
places-csv = CSV
places-figures = figures
places-latex = LaTeX
places-as = { $address }, as SVG and as PNG
places-empty = without rows
places-left-out = finished in this place, and in none of these tables

## Findings: what sentences are made of

factor-method = method
factor-data = data
factor-seed = seed
factor-seed_init = seed of A (start of the adapter)
factor-seed_order = seed of the order of rows
factor-seed_dropout = seed of dropout
factor-learning_rate = learning rate
factor-parent = parent
factor-residual = residual
factor-unassigned = not separable
word-log_l2 = log L2
word-log_relative_l2 = log relative L2
word-cosine = cosine
word-far = size of the change
word-where = direction of the change
word-delta = whole delta
word-function = predictions
word-descriptive = descriptive
word-permutation = permutation
word-task_vector = task vectors
word-difference = differences
share-with = { SHARE($share) } with { FACTOR($factor) }
seed-value = { SHORT($value) } (seed { $seed })
seed-missing = not measured (seed { $seed })
with-subject = { $subject }: { $text }
list-comma = ,{ " " }
some-more = { $shown } and { $more } more
answer-all =
    { $subject }Compared with another seed, { LARGEST($largest) }; { COUNT($total) ->
        [one] it does
       *[other] all { COUNT($total) } factors do
    } more than the seed.
answer-some = { $subject }Compared with another seed, { LARGEST($largest) }; { FACTORS($kept) } { COUNT($kept_count) ->
        [one] does
       *[other] do
    } more than the seed, { FACTORS($rest) } no more, or not measured.
answer-noise = { $subject }No factor does more than another seed: { LARGEST($largest) }.
answer-unknown = { $subject }Nothing could be compared with another seed, so the study cannot say yet what moves the model.
answer-no_factor = { $subject }No two recipes differ in one factor alone, so the study cannot say which factor moves the model.
answer-part = the { FACTOR($factor) } matters most for the { LIST($spaces) }
answer-space = { WORD($space) } ({ TIMES($times) })
answer-base = { $base }:{ " " }
list-and = ,{ " " }and{ " " }
effects-number = { TIMES($times) }
chart-effects-title = { COUNT($above) } of { COUNT($total) } comparisons of two recipes differ by more than two seeds do
chart-effects-summary = Dots on a logarithmic axis, one row for each factor ({ LIST($factors) }): how many times as much as another seed two recipes differ that differ in one factor. { COUNT($above) } of { COUNT($total) } dots lie right of the band of seed noise.
chart-effects-dot = { $pair }, { WORD($space) }: { TIMES($times) } what another seed does
chart-effects-axis = times what another seed does (logarithmic)
chart-effects-band = seed noise
page-cautions = Be careful
page-more_cautions =
    { COUNT($count) } more { COUNT($count) ->
        [one] limit
       *[other] limits
    } of these results
page-verdicts = What each factor does, compared with another seed
page-contents = Contents
page-factor = factor
page-randomness = randomness
page-reading = How to read this
page-details = In sentences
page-all_rows = show all { $count } rows
page-csv = CSV
page-scroll = more columns
page-no_script = This figure is drawn by a script, which is off here. Its values are in the table below.
read-effects = ...
read-floor = ...
read-seeds = ...
read-attribution = ...
read-similarity = ...
read-map = ...
read-where = ...
read-functions = ...
read-concentration = ...
read-entries = ...
read-intruders = ...
read-chains = ...
read-paths = ...
read-connectivity = ...
read-trust = ...
verdict-clear = clear
verdict-weak = weak
verdict-noise = within seed noise
verdict-missing = not measured
verdict-baseline = baseline
verdict-most = nearly all of the seed
verdict-part = part of the seed
verdict-little = little of the seed

## Findings: does a factor matter?

effects-answer = { $model }, in multiples of what another seed changes. Size of the change: { EFFECTS($far) }. Direction of the change: { EFFECTS($where) }. Predictions: { EFFECTS($function) }.
effects-beyond = clear for { LIST($factors) }
effects-near = weak for { LIST($factors) }
effects-within = within seed noise for { LIST($factors) }
effects-unknown = not measured for { LIST($factors) }
effects-none = not measured
effects-times = { FACTOR($factor) } ({ TIMES($times) })
effects-no_end = ∞×
effects-finite = { SHORT($times) }×
effects-factor = { SENTENCES($parts) }{ ALSO($also) }{ $settle }
effects-far = Size of the change: the norms of two models differ by { RATIO($effect) }, those of two seeds by { RATIO($baseline) }: { TIMES($times) } what another seed does{ $p } ({ EFFECT_PAIRS($counts) }).
ratio-factor = a factor of { SHORT($ratio) }
ratio-percent = { SHORT($percent) } %
effects-far-unknown = Size of the change: not compared with the seed.
effects-far-baseline =
    Size of the change: the norms of two seeds of one recipe differ by { RATIO($effect) } ({ COUNT($pairs) } { COUNT($pairs) ->
        [one] pair
       *[other] pairs
    }). Other rows are multiples of this, by the logarithm of the ratio.
effects-where = Direction of the change: the output sides of two models overlap by { SHORT($effect) }, those of two seeds by { SHORT($baseline) }, by chance by { SHORT($chance) }: beyond chance, two seeds share { TIMES($times) } as much{ $p } ({ EFFECT_PAIRS($counts) }).
effects-where-unknown = Direction of the change: not compared with the seed.
effects-where-baseline =
    Direction of the change: the output sides of two seeds of one recipe overlap by { SHORT($effect) }, by chance by { SHORT($chance) } ({ COUNT($pairs) } { COUNT($pairs) ->
        [one] pair
       *[other] pairs
    }). Other rows are multiples of this.
effects-delta = Whole deltas that start from the same A: { SHORT($effect) } apart, those of one recipe { SHORT($baseline) }: { TIMES($times) } the distance{ $p } ({ EFFECT_PAIRS($counts) }).
effects-delta-unknown = Whole deltas that start from the same A: not measured.
effects-delta-baseline =
    Whole deltas that start from the same A: two models of one recipe are { SHORT($effect) } apart ({ COUNT($pairs) } { COUNT($pairs) ->
        [one] pair
       *[other] pairs
    }).
effects-function = Predictions: two models are { SHORT($effect) } nats a token apart (KL), two seeds { SHORT($baseline) }: { TIMES($times) } the distance{ $p } ({ EFFECT_PAIRS($counts) }).
effects-function-unknown = Predictions: not compared with the seed.
effects-function-baseline =
    Predictions: two seeds of one recipe are { SHORT($effect) } nats a token apart (KL; { COUNT($pairs) } { COUNT($pairs) ->
        [one] pair
       *[other] pairs
    }). Other rows are multiples of this.
effects-part =
    { WORD($space) }: two models of one recipe that differ in this alone are { TIMES($times) } as far apart as two seeds that differ in everything ({ COUNT($pairs) } { COUNT($pairs) ->
        [one] pair
       *[other] pairs
    }).
effects-p = { " " }(p = { SHORT($p) })
effects-pairs =
    { COUNT($pairs) } { COUNT($pairs) ->
        [one] pair
       *[other] pairs
    } of models, { COUNT($seed_pairs) } of seeds
effects-settle-all = { " " }Inconclusive: all of it is within seed noise. More seeds or more held-out prompts would settle it.
effects-settle-functions = { " " }Inconclusive: all that was measured is within seed noise. More seeds, or what the models predict (evaluation: functions), would settle it.
effects-seed_part = { $model }: two models of one recipe that differ in { FACTOR($part) } alone are as far apart as two seeds that differ in everything, times { SHORT($delta) } by the whole delta, { SHORT($where) } by the output side and { SHORT($function) } by what they predict.
effects-tied = One number seeds the start of the adapter, the order of rows and dropout, so their effects are not separable; `seeds` with `init` and `order` separates them.
effects-tested = { $model }: { COUNT($tested) } of { COUNT($total) } verdicts rest on a permutation of labels, with Holm's correction over the factors; the others are descriptive.
effects-too_few = The verdicts are descriptive: with so few seeds no permutation test can reach p below { SHORT($least) }.
effects-descriptive = The verdicts are descriptive: a test needs { COUNT($seeds) } seeds.

## Findings: the seed baseline

share-little = under 0.1 %
floor-also = { " " }These recipes also differ in { LIST($names) }.
list-semicolon = ;{ " " }
list-sentences = { " " }
floor-no_difference = { $model }: no two recipes differ in one factor alone, so no factor can be compared with the seed.
floor-nothing = No model was trained and measured yet.
floor-spread =
    { $model }: the L2 norm of a recipe differs between its seeds by { RATIO($low) } to { RATIO($high) } ({ COUNT($recipes) } { COUNT($recipes) ->
        [one] recipe
       *[other] recipes
    }).
floor-apart =
    { $model }: the seed-to-seed distance is { PERCENT($low) } to { PERCENT($high) } of the recipe's own norm ({ COUNT($recipes) } { COUNT($recipes) ->
        [one] recipe
       *[other] recipes
    }).
floor-one_seed = There is one seed ({ $seed }), so no difference can be compared with seed noise. A second seed gives the baseline.
seeds-summary =
    { $model }: over seeds, the L2 norm is stable in { COUNT($stable) } of { COUNT($total) } data { COUNT($total) ->
        [one] pair
       *[other] pairs
    } (largest over smallest at most 1.25), varies in { COUNT($varies) } and changes with the seed in { COUNT($seed) }. The largest factor is { SHORT($ratio) } ({ $pair } at { SETTING($learning_rate) }).
seeds-unknown =
    { $model }: no norm of { COUNT($total) } data { COUNT($total) ->
        [one] pair
       *[other] pairs
    } was measured at two seeds.

## Findings: norms over seeds

seeds-stable = { $pair } at { SETTING($learning_rate) }: stable over seeds, factor { SHORT($ratio) }. L2 { BY_SEED($l2) }.
seeds-varies = { $pair } at { SETTING($learning_rate) }: varies over seeds, factor { SHORT($ratio) }. L2 { BY_SEED($l2) }.
seeds-seed = { $pair } at { SETTING($learning_rate) }: the seed changes this norm by a factor of { SHORT($ratio) }: do not compare methods at this learning rate. L2 { BY_SEED($l2) }.
seeds-zero = { $pair } at { SETTING($learning_rate) }: the norm is zero for a seed, so there is no factor. L2 { BY_SEED($l2) }.
seeds-one_seed = { $pair } at { SETTING($learning_rate) }: one seed only: its stability is not known. L2 { BY_SEED($l2) }.
seeds-some_seeds = { $pair } at { SETTING($learning_rate) }: measured for { COUNT($measured) } of { COUNT($seeds) } seeds: its stability is not known. L2 { BY_SEED($l2) }.
seeds-nothing = No two models measured in the view delta share base model, method, seed, learning rate and parent and differ in data, so there is nothing to say over seeds.
seeds-others =
    { COUNT($count) } { COUNT($count) ->
        [one] comparison
       *[other] comparisons
    } in the norms table are no data pairs and are not in the two tables.

## Findings: what goes with what

attribution-shares = { $model }: the variance of { WORD($response) } over { COUNT($observations) } observations goes { SHARES($parts) }; { SHARE($residual) } is left over{ UNASSIGNED($unassigned) }.
attribution-overlap = ; shares overlap by { PERCENT($share) }, for the design is not balanced
attribution-unassigned = ; { PERCENT($share) } goes with several together, for the design is not balanced
attribution-saturated = { $model }: the variance of { WORD($response) } over { COUNT($observations) } observations goes { SHARES($parts) }; no freedom is left ({ PERCENT($residual) } left over), so that this is a description, with no interval.
attribution-inseparable = { $model }: { FACTORS($factors) } are not separable in this design: one varies only within one level of another.
attribution-constant = { $model }: not varied in this study, so that nothing can be said of it: { FACTORS($factors) }.
attribution-nothing = Fewer than two models, or no factor that varies: there is no variance to attribute.

## Findings: which models moved alike

similarity-seeds_together = { $model }: by the cosine of whole deltas, seeds of a recipe are together: { COUNT($together) } of { COUNT($total) } models are most like their own recipe at another seed (mean cosine { COSINE($recipe) } between seeds of a recipe, { COSINE($seed) } between recipes at a seed).{ $sides }
similarity-seeds_apart = { $model }: by the cosine of whole deltas, { COUNT($together) } of { COUNT($total) } models are most like their own recipe at another seed (mean cosine { COSINE($recipe) } between seeds of a recipe, { COSINE($seed) } between recipes at a seed).{ $sides }
similarity-sides = { " " }Of this, the input side is the start of the adapter: it overlaps by { COSINE($input_seeds) } between seeds of a recipe, by { COSINE($input_recipes) } between recipes at a seed, by { COSINE($input_chance) } by chance. The output side is what was learned: { COSINE($output_seeds) }, { COSINE($output_recipes) } and { COSINE($output_chance) }.
similarity-apart = { $model }: models cluster apart by { FACTOR($factor) } ({ COUNT($levels) } levels): silhouette { COSINE($silhouette) }; mean cosine { COSINE($within) } within, { COSINE($between) } between.
similarity-mixed = { $model }: models do not cluster apart by { FACTOR($factor) } ({ COUNT($levels) } levels): silhouette { COSINE($silhouette) }; mean cosine { COSINE($within) } within, { COSINE($between) } between.
similarity-left_out =
    { $model }: { COUNT($count) } of { COUNT($total) } { COUNT($total) ->
        [one] model
       *[other] models
    } are not in the matrices, for not all of their pairs were measured.
similarity-nothing = No three models have all of their pairs measured, so there is nothing to cluster.

## Findings: which models are close to each other

map-groups = { $model }: models lie apart by { PARTS($parts) }.
map-by = { FACTOR($factor) } in the { WORD($space) } (silhouette { COSINE($silhouette) })
map-by_none = no factor in the { WORD($space) } (silhouette at most { COSINE($silhouette) })
map-seeds = { $model }: the distance of two seeds of one recipe is { PARTS($parts) } of the mean distance of two models.
map-seed = { PERCENT($seed_share) } ({ WORD($space) })
map-stress = { $model }: two dimensions show distances with a stress of { PARTS($parts) } (0 is exact; from 0.2 on the map is rough, and the matrix has the pairs).
map-stress_of = { SHORT($stress) } in the { WORD($space) }
map-left_out =
    { $model }: { COUNT($count) } of { COUNT($total) } models { COUNT($count) ->
        [one] is
       *[other] are
    } not in the map by { WORD($space) }, as some of their pairs were not measured.
map-nothing = No three models have all of their distances measured, so there is no map.
map-title-apart = models lie apart by { FACTOR($factor) } (silhouette { COSINE($silhouette) })
map-title-mixed = no factor sets models apart (silhouette at most { COSINE($silhouette) })
map-title-stress = { WORD($space) }; stress of the map { $stress }

## Findings: where they moved

where-kind =
    { $model }: in { COUNT($count) } of { COUNT($total) } { COUNT($total) ->
        [one] recipe
       *[other] recipes
    } the most of the squared L2 is in { $kind } ({ PERCENT($low) } to { PERCENT($high) }).
where-kind_difference =
    { $model }: in { COUNT($count) } of { COUNT($total) } { COUNT($total) ->
        [one] difference
       *[other] differences
    } the most of the squared L2 is in { $kind } ({ PERCENT($low) } to { PERCENT($high) }).
where-depth =
    { $model }: the last { COUNT($late) } of { COUNT($layers) } { COUNT($layers) ->
        [one] layer
       *[other] layers
    } hold { PERCENT($low) } to { PERCENT($high) } of the squared L2.
where-nothing = No norms by tensor were measured in the view delta, so there is nothing to say of places.

## Findings: what they predict

functions-layer = { $model }: models that differ in { FACTOR($factor) } are least alike at layer { COUNT($layer) } of { COUNT($last) }: CKA { COSINE($cka) }, two seeds { COSINE($seeds_cka) }.
functions-nothing = What models predict was not compared (evaluation: functions).

## Findings: how concentrated

concentration-half = { COUNT($count) } { WORD($what) }: half of L2 is in the largest { PERCENT($low) } to { PERCENT($high) } of entries; for independent normal entries it would be { PERCENT($normal) }.
concentration-rank = The mean effective rank of a tensor's delta is { SHORT($low) } to { SHORT($high) }, of at most { COUNT($rank) }.
concentration-nothing = No curve was measured in the view delta, so there is nothing to say of concentration.

## Findings: the base model's directions

entries-moved = { $model }: in the view { $view }, training moves { PERCENT($low) } to { PERCENT($high) } of the entries by more than { SETTING($tolerance) } ({ COUNT($recipes) } { COUNT($recipes) ->
        [one] recipe
       *[other] recipes
    }).{ $seeds }
entries-spread = { " " }Seeds of one recipe differ by at most { PERCENT($spread) } of the whole.
entries-shared_recipe = { $model }: seeds of one recipe (up to { COUNT($models) }) all keep { PERCENT($low) } to { PERCENT($high) } of the largest { PERCENT($density) } of their entries in common (by chance { SHARE($chance_low) } to { SHARE($chance_high) }); where two or more keep an entry, signs conflict in at most { PERCENT($conflict) }.
entries-shared_seed = { $model }: recipes at one seed (up to { COUNT($models) }) all keep { PERCENT($low) } to { PERCENT($high) } of the largest { PERCENT($density) } of their entries in common (by chance { SHARE($chance_low) } to { SHARE($chance_high) }); signs conflict in at most { PERCENT($conflict) }.
entries-nothing = No entries were counted.
intruders-count = { $model }: of the top { COUNT($top) } singular vectors of W + delta in each tensor, { PERCENT($low) } ({ $first }) to { PERCENT($high) } ({ $last }) are intruders, without a counterpart among the base model's (cosine below { SETTING($epsilon) }).{ $floor }
intruders-left = { $model }: { PERCENT($low) } ({ $first }) to { PERCENT($high) } ({ $last }) of what deltas write lies in the base model's top { COUNT($top) } left singular vectors, { SHORT($times_low) } to { SHORT($times_high) } times what chance gives.{ $floor }
intruders-right = { $model }: { PERCENT($low) } ({ $first }) to { PERCENT($high) } ({ $last }) of what deltas read lies in its top { COUNT($top) } right singular vectors, { SHORT($times_low) } to { SHORT($times_high) } times what chance gives.{ $floor }
intruders-floor = { " " }Seeds of one recipe differ by at most { PERCENT($spread) } of the whole.
intruders-nothing = The study did not ask how deltas lie to the base model's directions (`spectra: base`), or no delta has factors.

## Findings: chained trials

chains-added =
    In { COUNT($count) } { COUNT($count) ->
        [one] chained trial
       *[other] chained trials
    } the child's part is { PERCENT($low) } to { PERCENT($high) } of its parent's in L2.
chains-angle = The child goes at { DEGREES($low) } to { DEGREES($high) } to its parent; { COUNT($back) } of { COUNT($count) } turn back (over 100°), and at most { PERCENT($lost) } of the two lengths cancels.
chains-nothing = The study has no chained trial that was measured.

## Findings: along the way

paths-straight =
    { $model }: in { COUNT($count) } { COUNT($count) ->
        [one] trial
       *[other] trials
    } the way is { SHORT($low) } to { SHORT($high) } times as long as what is left of it at the end.
paths-first =
    { $model }: { $layer } is the first to reach half of its final norm in { COUNT($count) } of { COUNT($total) } { COUNT($total) ->
        [one] trial
       *[other] trials
    }.
paths-part =
    { $model }: seeds of a recipe have parted (cosine below one half) from { PERCENT($low) } to { PERCENT($high) } of the steps on ({ COUNT($count) } { COUNT($count) ->
        [one] recipe
       *[other] recipes
    }).
paths-together =
    { $model }: in { COUNT($count) } { COUNT($count) ->
        [one] recipe
       *[other] recipes
    } some seeds have not parted by the end (their cosine is above one half).
paths-nothing = No training's path was recorded.

## Findings: lines between models

connectivity-connected = { $model }: { $a } and { $b } are connected without a barrier: at most { SHORT($barrier) } nats above the straight line{ $floor }.
connectivity-below = { $model }: { $a } and { $b } are connected without a barrier: the loss lies nowhere above the straight line{ $floor }.
connectivity-barrier = { $model }: between { $a } and { $b } lies a barrier: the loss of { $data } at t = { SHORT($at) } is { SHORT($barrier) } nats above the straight line{ $floor }.
connectivity-floor = ; between two seeds of a recipe at most { SHORT($barrier) } ({ $of })
connectivity-no_floor = ; no line between two seeds of a recipe was measured
connectivity-connected_seeds = { $model }: the seeds of { $a } are connected without a barrier: at most { SHORT($barrier) } nats above the straight line.
connectivity-below_seeds = { $model }: the seeds of { $a } are connected without a barrier: the loss lies nowhere above the straight line.
connectivity-barrier_seeds = { $model }: between two seeds of { $a } lies a barrier: the loss of { $data } at t = { SHORT($at) } is { SHORT($barrier) } nats above the straight line.
connectivity-missing =
    { COUNT($count) } { COUNT($count) ->
        [one] line has
       *[other] lines have
    } no barrier ({ FIRST_SIX($names) }): { FIRST_SIX($reasons) }.
connectivity-nothing = The study asks for no line between models (`connectivity`).

## Findings: trust

trust-done =
    All { COUNT($total) } { COUNT($total) ->
        [one] trial
       *[other] trials
    } are done.
trust-undone =
    { COUNT($undone) } of { COUNT($total) } { COUNT($total) ->
        [one] trial
       *[other] trials
    } are not done ({ COUNT($failed) } failed, { COUNT($blocked) } blocked); the results are those of the rest.
trust-marked =
    The answers of { COUNT($count) } of { COUNT($total) } { COUNT($total) ->
        [one] model
       *[other] models
    } break the limits of the study: { FIRST_SIX($names) }.
trust-merged =
    Merging into the base model's dtype would change { COUNT($count) } { COUNT($count) ->
        [one] task vector
       *[other] task vectors
    } by { PERCENT($low) } to { PERCENT($high) } of their norm, and turn up to { PERCENT($zeros) } of their entries into zeros.
trust-dequantized =
    Read off 4-bit weights, { COUNT($count) } { COUNT($count) ->
        [one] task vector
       *[other] task vectors
    } would be wrong by { PERCENT($low) } to { PERCENT($high) } of their norm, with up to { PERCENT($zeros) } of their entries zero.
trust-counted =
    { $model }: all { COUNT($comparisons) } { COUNT($comparisons) ->
        [one] comparison
       *[other] comparisons
    } are over the same { COUNT($numel) } entries ({ $universe }).
trust-unequal =
    { $model }: { COUNT($comparisons) } { COUNT($comparisons) ->
        [one] comparison
       *[other] comparisons
    } are over { COUNT($low) } to { COUNT($high) } entries; L1 and L2 of unlike numbers of entries are not alike.


## Titles of columns

column-model = base model
column-space = space
column-effect = effect
column-baseline = between seeds
column-chance = by chance
column-times = times
column-effect_like = at like seeds
column-pairs = pairs
column-seed_pairs = pairs of seeds
column-p = p
column-p_adjusted = p corrected
column-basis = rests on
column-effect_verdict = verdict
column-factor = factor
column-label = recipe
column-difference = difference
column-pair = data pair
column-learning_rate = learning rate
column-seed = seed
column-seeds = seeds
column-norm_factor = norms differ by
column-norm_spread = seeds by
column-norm_verdict = how far
column-distance = distance
column-deviation = standard deviation
column-also = also differ in
column-ratio_unlike = at unlike seeds
column-ratio_most = at most
column-boot_low = bootstrap from
column-boot_high = bootstrap to
column-low = 95 % from
column-high = 95 % to
column-mean = mean L2
column-seed_distance = between seeds
column-ratio = at like seeds
column-times_seed = times the seed
column-verdict = where to
column-seeds_verdict = verdict
column-source = source
column-l2_mean = mean L2
column-l2_deviation = standard deviation
column-l2_low = bootstrap from
column-l2_high = bootstrap to
column-l2_factor = L2 factor
column-relative_distance = of its norm
column-norm_of_seed = { $norm } (seed { $seed })
column-response = response
column-level = level
column-key = place
column-df = freedom
column-sum_squares = sum of squares
column-share = share
column-partial_share = partial share
column-observations = observations
column-residual_df = left freedom
column-levels = levels
column-silhouette = silhouette
column-stress = stress
column-mean_distance = mean distance
column-seed_share = between seeds / mean
column-within = cosine within
column-between = cosine between
column-name = trial
column-trial = trial
column-nearest = most similar
column-cosine = cosine
column-layer = layer
column-kind = kind
column-value = norm
column-l1 = L1
column-l2 = L2
column-relative_l2 = relative L2
column-what = of
column-half_l1 = half of L1 in
column-half_l2 = half of L2 in
column-l2_in_1 = L2 of largest 1 %
column-l2_in_10 = L2 of largest 10 %
column-effective_rank = effective rank
column-density = density
column-num_keep = kept
column-threshold = threshold
column-at_or_above = at or above
column-l1_share = of L1
column-l2_share = of L2
column-l2_parent = L2 of parent
column-l2_child = L2 of child
column-angle = angle
column-top = top
column-epsilon = epsilon
column-intruder_share = intruders
column-intruder_spread = intruders, spread
column-share_left = in left
column-left_spread = left, spread
column-left_times = left over chance
column-share_right = in right
column-right_spread = right, spread
column-right_times = right over chance
column-cancellation = cancelled
column-child_share = child of parent
column-numel = entries
column-merged_error = error merged
column-merged_false_zeros = zeros merged
column-dequantized_error = error in 4 bits
column-dequantized_false_zeros = zeros in 4 bits
column-universe = universe
column-comparisons = comparisons
column-length = path length
column-displacement = displacement
column-length_ratio = length / displacement
column-first = first to move
column-first_at = at
column-steps = steps
column-records = records
column-parted = parted from
column-last_cosine = last cosine
column-data = data
column-barrier = barrier
column-at = at t
column-seed_barrier = between seeds
column-seeds_of = seeds of
column-loss_a = loss of the first
column-loss_b = loss of the second
column-points = points
column-message = reason
column-status = status
column-train_loss = train loss
column-eval_loss = held-out loss
column-style_rate = style
column-japanese_rate = Japanese
column-stopped_rate = stopped
column-repetition_rate = repetition
column-distinct_rate = distinct
column-seconds = seconds
column-marks = marks
column-view = view
column-tolerance = tolerance
column-moved_share = moved
column-seed_spread = between seeds
column-nonzero_share = not zero
column-group = group
column-models = models
column-all_share = kept by all
column-chance_share = all by chance
column-over_chance = over chance
column-in_common = in common
column-common_by_chance = in common by chance
column-some_share = by some
column-one_share = by one
column-none_share = by none
column-sign_conflict = signs conflict
column-cka = CKA
column-seeds_cka = CKA of seeds
column-answers = answers
column-position = place
column-token = token
column-kl = KL
column-p_a = p of first
column-p_b = p of second
column-top_a = likeliest of first
column-top_b = likeliest of second
column-prompt = prompt
column-l1_printed = L1 printed
column-l1_measured = L1 measured
column-l1_ratio = L1 ratio
column-l2_printed = L2 printed
column-l2_measured = L2 measured
column-l2_ratio = L2 ratio

## Verdicts, in sentences and in cells

verdict-open = not to be told
verdict-unknown = not known
verdict-stable = stable
verdict-varies = varies
verdict-seed = the seed's doing
verdict-zero = zero for a seed
verdict-one_seed = one seed only
verdict-some_seeds = not all seeds

short-baseline = the seed itself
short-most = nearly all of the seed's
short-part = a part of the seed's
short-little = little of the seed's
short-beyond = beyond
short-near = little more
short-within = no more
short-open = { verdict-open }
short-unknown = { verdict-unknown }
short-stable = { verdict-stable }
short-varies = { verdict-varies }
short-seed = { verdict-seed }
short-zero = { verdict-zero }
short-one_seed = { verdict-one_seed }
short-some_seeds = { verdict-some_seeds }

## Figures: captions, axes, legends

caption-effects = { $model }: every two recipes that differ in one factor, as a multiple of two seeds of one recipe ({ COUNT($count) } points). The band is what cannot be told from the seed.
caption-cka = { $model }: CKA of hidden states at answer tokens by layer (0: embeddings), of two models that differ in a factor, and (dashed) of two seeds of one recipe.
caption-floor = { $model }: how far two recipes that differ in one factor are apart at like seeds, as a multiple of how far two seeds of either are. Left of the line another seed makes more of a difference than the factor.
caption-seeds = { $model }: L2 norm of the difference of each data pair, by seed.
caption-attribution = { $model }: share of the variance of { WORD($response) } that goes with each factor, as a whole and by place. Factors that the study cannot tell apart share a colour.
caption-similarity = { $model }: how alike every two models are, in the order of their clustering by cosine; the strips on the left say what each of them is. Choose a measure.{ $left } Shown: { $label }.
caption-map = { $model }: { COUNT($count) } models; those that lie close are alike. The colour is a factor, the shape the seed; a unit is as long in both directions. Choose a distance and a factor. Shown: { $label }.
caption-similarity-recipes = { " " }Means over seeds, for there are { COUNT($models) } models.
caption-heatmap = { $model }: { $measure } by layer and module kind, the mean over seeds; choose a recipe or a difference of two. This one is { $label }.
caption-curve = { $model }: share of a norm in the largest entries, { COUNT($shown) } of { COUNT($total) } curves (one seed); points are the study's densities, dots what independent normal entries would give. This one is { $norm }.
caption-intruders = { $model }: how much of a recipe's deltas lies in the base model's top { COUNT($top) } singular vectors, as a multiple of what a random direction has there (the line), the mean over seeds.
caption-chains = { $model }: L2 of what the parent did, of what the child added and of the whole.
caption-paths = { $model }: norm of each layer along the training, as a share of its last; choose a recipe. This one is { $label }.
caption-connectivity = { $model }: held-out loss along the line from one model (t = 0) to another (t = 1), above the straight line between its ends; seeds of one recipe are dashed. This one is { $label }.
chart-cut = { COUNT($shown) } of { COUNT($total) } are shown.
axis-times = times what another seed does
axis-cka = CKA
axis-ratio = times as far as another seed
axis-l2 = L2 norm of the difference
axis-l2_part = L2 norm
axis-share = share of variance
axis-layer = layer
axis-kind = module kind
axis-of = model
axis-with = with
axis-first_dimension = first dimension
axis-second_dimension = second dimension
likeness-cosine = cosine
likeness-where = output side
likeness-function = predictions
likeness-signs = signs
likeness-overlap = largest entries
reading-cosine = 1: same direction, 0: unrelated, -1: opposite
reading-where = share of directions in common; by chance { $middle }
reading-function = KL divergence, nats a token; 0: the same, median { $middle }
reading-signs = share of signs that agree; by chance { $middle }
reading-overlap = times as many in common as by chance
axis-kept = largest entries kept
axis-norm_share = share of the norm
axis-times_chance = times what chance gives
axis-step = step
axis-path = norm / last norm
axis-t = t
axis-excess = nats above the straight line
axis-loss = loss
legend-line = line
line-difference = two recipes
line-seeds = two seeds
line-of_seeds = seeds of { $label }
legend-cka = differ in the factor
legend-seeds_cka = two seeds
legend-seed = seed
legend-colour = colour
legend-factor = factor
legend-part = part
legend-comparison = difference
legend-side = singular vectors
legend-layer = layer
choose = show
choose-colour = colour by
level-none = none
side-left = left (written to)
side-right = right (read from)
part-l2_parent = parent
part-l2_child = child
part-l2 = whole
place-all = all
normal = normal entries
measure-relative_l2 = L2 relative to the base's weights
measure-l2 = L2 norm

## What the numbers mean; all formulas are in docs/method.md

define-norms-head = L1, L2
define-norms-text = the sum of magnitudes, and the root of the sum of squares, of float32(a) - float32(b) over all tensors that either side trained, accumulated in float64.
define-trial-head = L2 of a trial
define-trial-text = the L2 of its task vector: what its training changed.
define-pair-head = data pair
define-pair-text = two trials that share base model, method, seed, learning rate and parent, and differ in data.
define-factor-head = L2 factor
define-factor-text = the largest L2 over the smallest between seeds: at most 1.25 is stable, above 1.25 up to 2 varies, above 2 is the seed's doing rather than the method's.
define-effect-head = effect, between seeds, times
define-effect-text = the mean of two models that differ in the factor alone, and of two models of one recipe; in both their seeds are unlike. How far: |log| of the ratio of norms. Where: overlap of the output sides. Whole delta: distance, where the start of the adapter is shared. What it does: KL divergence on held-out answers, both directions, nats a token. Times is the first over the second; of overlaps it is (between seeds - by chance) / (effect - by chance).
define-cka-head = CKA
define-cka-text = linear centred kernel alignment of the hidden states of two models at the tokens of held-out answers, unbiased: 1 where they are equal up to rotation and scale, near 0 where they are unrelated.
define-tokens-head = p, KL of a token
define-tokens-text = the probability that each model gives the token after the prompt and the answer so far, and the divergence KL(a || b) there, in nats.
define-floor-head = at unlike seeds, at like seeds
define-floor-text = the mean distance of two recipes that differ in one factor over the mean distance of two seeds of either. At unlike seeds it is 1 where the two are one recipe: up to 1.25 not to be told from the seed, from 2 on beyond it. Where no distance could be twice the seeds' (at most), it cannot be told.
define-norms_differ-head = norms differ by, seeds by
define-norms_differ-text = the larger mean L2 of two recipes over the smaller, and the larger factor between seeds of either; the logarithm of the first over that of the second: up to 1.25 not to be told from the seed, from 2 on beyond it.
define-distance-head = distance
define-distance-text = the L2 of the difference of two task vectors: measured (norms), or out of their norms and cosine by the law of cosines (pairs).
define-interval-head = bootstrap, 95 %
define-interval-text = a percentile bootstrap of the mean over three or more seeds (9,999 resamples, 2.5 to 97.5 %); of three seeds it is their range, and narrower than 95 % deserves for few seeds. For partial shares 95 % by inversion of the noncentral F distribution.
define-share-head = share of variance
define-share-text = type II sum of squares of a factor over the total, in an additive model without interactions; the partial share is over itself plus the residual. What factors explain only together is not told apart.
define-cosine-head = cosine
define-cosine-text = the signed cosine of two task vectors: 1 alike, 0 unrelated, -1 opposite.
define-silhouette-head = silhouette
define-silhouette-text = how much nearer a model is to its own level of a factor than to the next one, by 1 - cosine, from -1 to 1; from 0.5 on levels cluster apart.
define-stress-head = map, stress
define-stress-text = places in two dimensions that keep the distances of models as far as they can (classical scaling, Torgerson 1952); stress is the root of the sum of (distance - distance in the map)^2 over the sum of distance^2 (Kruskal 1964): 0 where the map is exact, rough from 0.2 on.
define-relative-head = relative L2
define-relative-text = the L2 over that of the base model's weights in the same tensors.
define-density-head = density, kept
define-density-text = the share of all values kept, the largest magnitudes first, and their number: max(1, floor(density x values)).
define-threshold-head = threshold, at or above
define-threshold-text = the smallest magnitude kept, and how many values reach it: more than were kept where magnitudes tie.
define-half-head = half of L2 in
define-half-text = the density whose largest entries hold half of the norm, between two points of the curve by the logarithm of density.
define-rank-head = effective rank
define-rank-text = exp of the entropy of a delta's singular values, each over their sum (Roy and Vetterli 2007), the mean over tensors.
define-barrier-head = barrier
define-barrier-text = the most that the held-out loss of base + (1 - t) a + t b, with a and b the task vectors of two models, lies above the straight line between t = 0 and t = 1, in nats per token (Entezari et al. 2022); up to 0.01 the two count as connected.
define-intruder-head = intruders
define-intruder-text = the share of the top left singular vectors of W + delta, over all tensors, whose cosine to every singular vector of the base model's tensor W is below epsilon (Shuttleworth et al. 2024). The spread is the largest of the seeds less the smallest.
define-principal-head = in left, in right
define-principal-text = the share of a delta's energy (its squared L2) that lies in the top left singular vectors of the base model's tensors, which it writes to, or in the right ones, which it reads; and how many times what a random direction has there.
define-chain-head = angle, cancelled
define-chain-text = of the child's part to its parent's, in degrees; and 1 - |p + c| / (|p| + |c|).
define-answers-head = style, Japanese, stopped, repetition
define-answers-text = the share of sample answers that end in the study's style, that are Japanese by script and are no noise, that ended before the output limit, and in which over 30 % of the 4-grams repeat or of the text is a loop.
define-marked-head = marked
define-marked-text = a model whose rates are beyond the study's limits, where the data's own answers are within them.
define-merge-head = merge
define-merge-text = trials or finished models combined into one checkpoint, in the base model's dtype; its L2 is that of the checkpoint minus the base model.
define-missing-head = –
define-missing-text = not measured. Numbers have four significant digits here, all in the tables.
