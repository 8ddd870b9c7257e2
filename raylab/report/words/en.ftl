### What the report says in English. The syntax: https://projectfluent.org/fluent/guide
###
### { $name } is a value, written plainly; { PERCENT($share) } is one in another form:
###   SHORT      three significant digits    COSINE     two decimals                COUNT      a whole number, 2,200
###   PERCENT    62.5 %                      SHARE      the same; "under 0.1 %" for little
###   SETTING    as somebody wrote it, 1e-5  DEGREES    100°
###   PERCENTS   14.7 % to 16.4 %            SHORTS     0.967 to 1.07; one number where both are the same
###   BASE       a base model as a prefix; nothing where the study has one only
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
section-effects = Which factors matter more than the seed?
section-floor = How much does the seed alone change?
section-seeds = Are norms stable over seeds?
section-attribution = Which factors explain the differences between models?
section-similarity = Which models changed in the same direction?
section-map = Which models are close to each other?
section-where = Which layers and modules changed most?
section-functions = In which layers and at which tokens do models differ most?
section-concentration = Is the change concentrated in few entries?
section-entries = How many entries move, and do models move the same ones?
section-intruders = Does the change keep to the base model's main directions?
section-chains = What does a chained training add to its parent?
section-paths = How does the change develop during training?
section-connectivity = Are models connected without a loss barrier?
section-merges = Does the merge do both?
section-trust = How reliable are these numbers?
section-answers = What do the models answer?
section-trials = Which trials ran, and how did they end?
section-numbers = What do the numbers mean?
section-tables = Where are the tables?
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
grid-effects = Each factor compared with the seed
grid-effect_pairs = Each two recipes compared with the seed
grid-differences = Distances of recipes compared with the seed
grid-floor = What the seed changes in each recipe
grid-seeds_like = Data pairs at learning rates that methods share
grid-seeds_unlike = Data pairs at other learning rates
grid-attribution = Shares of variance
grid-silhouette = Do models form groups?
grid-neighbours = The most similar model of each
grid-map_distances = Distances of models
grid-map_factors = Which models lie together
grid-where = Norms by layer and module kind
grid-cka_by_layer = CKA by layer
grid-tokens = The tokens at which predictions differ most
grid-concentration = Share of the norm in the largest entries
grid-densities = Norms of the largest entries by density
grid-moved = Entries that moved
grid-shared = Entries that several models keep
grid-intruders = Intruders and shares in the base model's top directions
grid-chains = Parent, child and whole
grid-paths = Lengths of paths
grid-parting = When seeds diverge
grid-barriers = Loss barriers
grid-merges = Merges and what they are made of
grid-merge_curves = Sweeps of merges, point by point
grid-merge_signs = Largest entries that keep their sign
grid-audit = Errors in the base model's dtype and in 4 bits
grid-counted = Entries compared
grid-trials = All trials
grid-printed = Measured and published norms
grid-likelihoods = Log-probability of held-out answers
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
note-printed = Published values are those of their sources; a ratio is measured over published.
note-likelihoods =
    All { COUNT($count) } { COUNT($count) ->
        [one] model
       *[other] models
    }. The mean log-probability of a token of each data set's answers to held-out prompts, in nats.
note-trials = All { $amount }.
marks-marked = marked: { $marks }.{ $compared }
marks-compared = { " " }Compared in { FIRST_SIX($names) }.
trouble = { $status }: { $what }
trouble-unknown = no cause is known
missing-comparisons =
    { COUNT($missing) } of { COUNT($planned) } planned { COUNT($planned) ->
        [one] comparison was
       *[other] comparisons were
    } not measured.
missing-names = Not measured: { LIST($names) }.
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
merge-input-own = { $model } ({ $own })
merge-random = , a random share of { SETTING($density) } kept{ $scope }
merge-by_rank = , a random share of { SETTING($density) } kept, rather of the larger entries of a row{ $scope }
merge-largest = , the largest { SETTING($density) } kept{ $scope }
merge-middle = , { SETTING($density) } kept below the largest, which are outliers{ $scope }
merge-all = { $scope }
merge-scope-global = { " " }of the whole task vector
merge-scope-tensor = { " " }of each tensor
merge-scaling = ; lambda { SETTING($scaling) }
merge-seed = ; seed { $seed }
merge-as_adapter = ; written as an adapter
merge-as_adapter-rank = { " " }of rank { $rank }
merge-as_adapter-energy = { " " }that keeps { SETTING($energy) } of each tensor's energy (sum of squared singular values)
merge-setting = ; { $name } { $value }
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
factor-seed_init = start of A (seed)
factor-seed_order = order of rows (seed)
factor-seed_dropout = dropout (seed)
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
share-with = { FACTOR($factor) } { SHARE($share) }
seed-value = { SHORT($value) } (seed { $seed })
seed-missing = not measured (seed { $seed })
with-subject = { $subject }: { $text }
list-comma = ,{ " " }
some-more = { $shown } and { $more } more
answer-all =
    { $subject }Compared with another seed, { LARGEST($largest) }; { COUNT($total) ->
        [one] it does more than the seed.
       *[other] each of the { COUNT($total) } factors does more than the seed in one way or more.
    }
answer-some =
    { $subject }Compared with another seed, { LARGEST($largest) }; { FACTORS($kept) } { COUNT($kept_count) ->
        [one] does
       *[other] do
    } more than the seed in one way or more, { FACTORS($rest) } no more, or not measured.
answer-noise = { $subject }No factor does more than another seed: { LARGEST($largest) }.
answer-unknown = { $subject }Nothing could be compared with another seed, so the study cannot say yet what moves the model.
answer-nothing = { $subject }No two recipes that differ in one factor alone were measured, so the study cannot say what moves the model.
answer-no_factor = { $subject }No two recipes differ in one factor alone, so the study cannot say which factor moves the model.
answer-part =
    { COUNT($count) ->
        [one] the { FACTORS($factors) } matters most
       *[other] { FACTORS($factors) } matter most, all alike,
    } for the { LIST($spaces) }
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
read-effects = Each dot is two recipes that differ only in the factor of its row; its place says how many times as different they are as two seeds of one recipe, on a logarithmic axis. Within the grey band (0.8 to 1.25 times) a factor does no more than another seed. Colour and shape stand for the size of the change, its direction, and what the models predict. From 2 times on an effect is called clear, unless a permutation test says otherwise.
read-floor = Each dot is two recipes that differ in one factor, trained with the same seed. Its place is their distance divided by the seed-to-seed distance: 1, the line, means that the factor moves a model as much as another seed does. Colours stand for factors, and a bar through a dot is its 95 % interval. The table has the same distance between different seeds, on which the verdict rests.
read-seeds = Each group of bars is two models that differ in data alone; each bar is one seed. Its length is the L2 norm of their difference. Bars of equal length mean that the norm does not depend on the seed; a factor above 2 means that it says more about the seed than about the data.
read-attribution = Each bar is the whole variance of one quantity, first for the whole model, then by layer and by module kind. A coloured part is the share that goes with a factor; a long part means that models differ mostly by it. What no factor explains is the residual. Factors that always change together are not separable in this design, and share one part.
read-similarity = Each cell compares the model of its row with that of its column; models that are alike stand next to each other. For the cosine of task vectors, 1 is the same direction, 0 unrelated and -1 opposite; the scale beside the figure says the same of other measures. The strips show the method, the data and the seed of each model. Blocks of one colour along the diagonal are groups of models that changed alike.
read-map = Each point is a model; points that lie close together are models that differ little. The position is computed from all distances by classical multidimensional scaling; the axes have no meaning of their own. Colour stands for a factor, shape for the seed. The stress says how much of the distances is lost in two dimensions: near 0 nothing, from 0.2 on the map is rough.
read-where = Each cell is a layer (rows, the last one on top) and a kind of module (columns). The brighter it is, the more training changed those weights, as L2 relative to the base model's weights where that was measured. An even colour means that all parts changed alike. Choose another recipe, or the difference of two.
read-functions = Each line is a factor: how similar the hidden states of two models that differ in it are (CKA), by layer. 1 means equal, 0 unrelated. Dashed lines are two seeds of one recipe: where a solid line runs along its dashed one, the factor does no more than another seed. The table lists the tokens at which two models' predictions differ most.
read-concentration = From left to right ever more entries are kept, the largest first; the height is the share of the norm that they hold. A line above the dotted one means that few entries hold more of the norm than they would in independent normal entries. Colours stand for comparisons, the dots on a line for the study's densities.
read-entries = The first table says which share of its entries each recipe moves by more than the tolerance, and by how much that differs between seeds. The second one says which share of their largest entries several models have in common, beside what chance would give. A value near chance means that models move different entries; a sign conflict means that they move the same entry in opposite directions.
read-intruders = Each point is a recipe. Its place says how much of its delta lies in the base model's strongest directions, in multiples of a random direction's share; 1, the line, means no preference. Colours stand for the side: left is what a delta writes to, right what it reads from. Intruders, in the table, are strong directions of the trained model that the base model does not have.
read-chains = Each group of bars is a chained trial: the L2 of what its parent changed, of what it added itself, and of both together. Two unrelated changes stand at 90° and add up like the sides of a right triangle. Above 90° the child undoes some of its parent's change; below, it goes on in the same direction.
read-paths = Each line is a layer of one recipe; darker lines are earlier layers. Its height is the layer's norm at a step as a share of its final norm, so that all lines end at 100 %. A layer whose line rises early moves early. Choose another recipe in the menu.
read-connectivity = Each line goes from one model (t = 0) to another (t = 1) by mixing their task vectors. Its height is the held-out loss above the straight line between both ends. A line that stays at 0 or below means that the two models are connected; a hump is a barrier. Dashed lines join two seeds of one recipe.
read-merges = Each row compares a merge with one of the models that it is made of, its parent, on the data that this parent learned. Values are means over seeds. The loss is the held-out cross-entropy in nats a token: of the merge, of this parent, and the mean of the other parents. Gain kept says how much of this parent's lead over the other parents the merge has: 100 % is as good as this parent, 0 % is no better than the other parents. Rates are shares of answers to the prompts of this data, in the order of the column's title; style kept is to the style as gain kept is to the loss. The cosine is that of the task vectors of the merge and of this parent. Signs kept is the share of this parent's largest entries, at the smallest density of the study, that have the same sign in the merge; an entry that is zero there is not kept. In a figure each colour is the data of one parent: dashed is the parent that learned it, dotted the mean of the other parents. Where data sets have the same prompts, the rates are the same and their lines lie on each other. Trials are asked on the base model as it was held in training, merges as they are saved. A dash was not measured.
read-trust = The first table says by how much a task vector would be wrong if it were measured from merged weights in the base model's dtype, or from 4-bit weights, and how many of its entries would become zero. 0 % is no error. The second one counts the entries that comparisons are over: norms can be compared where this number is the same.
verdict-clear = clear
verdict-weak = weak
verdict-noise = within seed noise
verdict-missing = not measured
verdict-baseline = baseline
verdict-most = as much as the seed
trust-none_done =
    None of { COUNT($total) } { COUNT($total) ->
        [one] trial
       *[other] trials
    } is done ({ COUNT($failed) } failed, { COUNT($blocked) } blocked), so there is no result yet.
verdict-part = part of the seed
verdict-little = little of the seed

## Findings: does a factor matter?

effects-answer = { BASE($model) }Each number is a multiple of what another seed changes. Size of the change: { EFFECTS($far) }. Direction of the change: { EFFECTS($where) }. Predictions: { EFFECTS($function) }.
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
effects-seed_part = { BASE($model) }Two models of one recipe that differ in { FACTOR($part) } alone, compared with two seeds that differ in everything: { SHORT($delta) } times the distance of the whole delta, { SHORT($where) } times that of the output side, { SHORT($function) } times that of the predictions.
effects-tied = One number seeds the start of the adapter, the order of rows and dropout, so their effects are not separable; `seeds` with `init` and `order` separates them.
effects-tested = { BASE($model) }{ COUNT($tested) } of { COUNT($total) } verdicts rest on a permutation of labels, with Holm's correction over the factors; the others are descriptive.
effects-too_few = No verdict is tested, as no permutation test of so few seeds can reach p below { SHORT($least) }: the verdicts describe these models.
page-verdict_note = Multiples of the mean difference of two models of one recipe with different seeds (bars: logarithmic). ▲ clear from 2×, △ weak from 1.25×, ○ less, unless a test says otherwise.
measured-far = norm (L2)
measured-where = output side
measured-function = KL, held-out answers
effects-descriptive = No verdict is tested, as a test needs { COUNT($seeds) } seeds: the verdicts describe these models.

## Findings: the seed baseline

share-little = under 0.1 %
floor-also = { " " }These recipes also differ in { LIST($names) }.
list-semicolon = ;{ " " }
list-sentences = { " " }
range = { $low } to { $high }
floor-no_difference = { BASE($model) }No two recipes differ in one factor alone, so no factor can be compared with the seed.
floor-nothing = No model was trained and measured yet.
floor-spread =
    { BASE($model) }The L2 norm of a recipe differs between its seeds by { RATIO($low) } to { RATIO($high) } ({ COUNT($recipes) } { COUNT($recipes) ->
        [one] recipe
       *[other] recipes
    }).
floor-apart =
    { BASE($model) }The seed-to-seed distance is { PERCENTS($low, $high) } of the norm of a recipe's own task vector ({ COUNT($recipes) } { COUNT($recipes) ->
        [one] recipe
       *[other] recipes
    }).
floor-unknown = No recipe was measured at two seeds, so the effect of the seed alone is not known.
floor-one_seed = There is one seed ({ $seed }), so no difference can be compared with seed noise. A second seed gives the baseline.
seeds-summary =
    { BASE($model) }The L2 norm of the difference is stable over seeds (largest / smallest at most 1.25) in { COUNT($stable) } of { COUNT($total) } data { COUNT($total) ->
        [one] pair
       *[other] pairs
    }. It changes most, by a factor of { SHORT($ratio) }, for { $pair } at { SETTING($learning_rate) }.
seeds-unknown =
    { BASE($model) }No norm of { COUNT($total) } data { COUNT($total) ->
        [one] pair
       *[other] pairs
    } was measured at two seeds.

## Findings: norms over seeds

seeds-stable = { $pair } at { SETTING($learning_rate) }: stable over seeds, factor { SHORT($ratio) }. L2 { BY_SEED($l2) }.
seeds-varies = { $pair } at { SETTING($learning_rate) }: varies over seeds, factor { SHORT($ratio) }. L2 { BY_SEED($l2) }.
seeds-seed = { $pair } at { SETTING($learning_rate) }: the seed changes this norm by a factor of { SHORT($ratio) }; do not compare methods at this learning rate. L2 { BY_SEED($l2) }.
seeds-zero = { $pair } at { SETTING($learning_rate) }: the norm is zero at a seed, so there is no factor. L2 { BY_SEED($l2) }.
seeds-one_seed = { $pair } at { SETTING($learning_rate) }: one seed only, so its stability is not known. L2 { BY_SEED($l2) }.
seeds-some_seeds = { $pair } at { SETTING($learning_rate) }: measured at { COUNT($measured) } of { COUNT($seeds) } seeds, so its stability is not known. L2 { BY_SEED($l2) }.
seeds-nothing = No two measured models differ in data alone (same base model, method, seed, learning rate and parent), so no norm can be compared over seeds.
seeds-others =
    { COUNT($count) } { COUNT($count) ->
        [one] comparison in the norms table is no data pair and is
       *[other] comparisons in the norms table are no data pairs and are
    } not in these tables.

## Findings: what goes with what

attribution-shares = { BASE($model) }Factors explain the variance of { WORD($response) } over { COUNT($observations) } observations as follows: { SHARES($parts) }; the residual is { SHARE($residual) }{ UNASSIGNED($unassigned) }.
attribution-overlap = ; shares overlap by { PERCENT($share) }, because the design is not balanced
attribution-unassigned = ; { PERCENT($share) } belongs to several factors together, because the design is not balanced
attribution-saturated = { BASE($model) }Factors explain the variance of { WORD($response) } over { COUNT($observations) } observations as follows: { SHARES($parts) }. No degree of freedom remains for a residual ({ PERCENT($residual) }), so this is a description without intervals.
attribution-inseparable = { BASE($model) }In shares of variance, { FACTORS($factors) } are not separable in this design, because they do not vary independently.
attribution-constant = { BASE($model) }Factors that this study does not vary, so that nothing can be said of them: { FACTORS($factors) }.
attribution-nothing = There are fewer than two models, or no factor varies, so there is no variance to explain.

## Findings: which models changed in the same direction

similarity-seeds_together = { BASE($model) }Seeds of one recipe lie together: { COUNT($together) } of { COUNT($total) } models are most similar to their own recipe at another seed. The mean cosine is { COSINE($recipe) } between seeds of one recipe and { COSINE($seed) } between recipes at one seed.
similarity-seeds_apart = { BASE($model) }Seeds of one recipe do not lie together: { COUNT($together) } of { COUNT($total) } models are most similar to their own recipe at another seed. The mean cosine is { COSINE($recipe) } between seeds of one recipe and { COSINE($seed) } between recipes at one seed.
similarity-sides = { BASE($model) }The input side of a delta is the start of the adapter: it overlaps by { COSINE($input_seeds) } between seeds of one recipe, by { COSINE($input_recipes) } between recipes at one seed and by { COSINE($input_chance) } by chance. The output side is what was learned: it overlaps by { COSINE($output_seeds) }, { COSINE($output_recipes) } and { COSINE($output_chance) }.
similarity-apart = { BASE($model) }Models form groups by { FACTOR($factor) } ({ COUNT($levels) } levels): silhouette { COSINE($silhouette) }, mean cosine { COSINE($within) } within a group and { COSINE($between) } between groups.
similarity-mixed = { BASE($model) }By { FACTOR($factor) } ({ COUNT($levels) } levels) models form no clear groups: silhouette { COSINE($silhouette) }, mean cosine { COSINE($within) } within a level and { COSINE($between) } between levels.
similarity-no_groups = { BASE($model) }No factor separates the models into clear groups (silhouette 0.5 or more). The clearest is { FACTOR($factor) } with { COUNT($levels) } levels: silhouette { COSINE($silhouette) }, mean cosine { COSINE($within) } within a level and { COSINE($between) } between levels.
similarity-left_out =
    { BASE($model) }{ COUNT($count) } of { COUNT($total) } { COUNT($total) ->
        [one] model
       *[other] models
    } are not in the matrices, because not all of their pairs were measured.
similarity-nothing = No three models have all of their pairs measured, so there is nothing to compare.

## Findings: which models are close to each other

map-groups = { BASE($model) }Models lie apart by { PARTS($parts) }.
map-by = { FACTOR($factor) } in the { WORD($space) } (silhouette { COSINE($silhouette) })
map-by_none = no factor in the { WORD($space) } (silhouette at most { COSINE($silhouette) })
map-seeds = { BASE($model) }The seed-to-seed distance is { PARTS($parts) } the mean distance of two models.
map-seed = { SHORT($seed_share) } times ({ WORD($space) })
map-stress = { BASE($model) }Two dimensions show the distances with a stress of { PARTS($parts) } (0 is exact; from 0.2 on the map is rough, and the matrix has the pairs).
map-stress_of = { SHORT($stress) } in the { WORD($space) }
map-left_out =
    { BASE($model) }{ COUNT($count) } of { COUNT($total) } models { COUNT($count) ->
        [one] is
       *[other] are
    } not in the map by { WORD($space) }, because some of their pairs were not measured.
map-nothing = No three models have all of their distances measured, so there is no map.
map-title-apart = models lie apart by { FACTOR($factor) } (silhouette { COSINE($silhouette) })
map-title-mixed = no factor separates all models; { FACTOR($factor) } comes closest (silhouette { COSINE($silhouette) })
map-title-stress = { WORD($space) }; stress of the map { $stress }

## Findings: which layers and modules changed most

where-kind =
    { BASE($model) }In { COUNT($count) } of { COUNT($total) } { COUNT($total) ->
        [one] recipe
       *[other] recipes
    } the module kind { $kind } has the largest share of the squared L2: { PERCENTS($low, $high) }.
where-kind_difference =
    { BASE($model) }In { COUNT($count) } of { COUNT($total) } { COUNT($total) ->
        [one] difference
       *[other] differences
    } the module kind { $kind } has the largest share of the squared L2: { PERCENTS($low, $high) }.
where-depth =
    { BASE($model) }The last { COUNT($late) } of { COUNT($layers) } { COUNT($layers) ->
        [one] layer
       *[other] layers
    } have { PERCENTS($low, $high) } of the squared L2.
where-nothing = No norms by tensor were measured in the view delta, so nothing can be said of layers and modules.

## Findings: what they predict

functions-layer = { BASE($model) }Models that differ in { FACTOR($factor) } are least similar at layer { COUNT($layer) } of { COUNT($last) }: CKA { COSINE($cka) }, between two seeds { COSINE($seeds_cka) } (1 means equal).
functions-token = { BASE($model) }The largest difference at one token is a KL divergence of { SHORT($kl) } nats ({ $label }).
functions-nothing = The study did not compare what models predict (evaluation: functions).

## Findings: how concentrated

concentration-half = Half of the L2 norm lies in the largest { PERCENTS($low, $high) } of entries ({ COUNT($count) } { WORD($what) }); for independent normal entries it would be { PERCENT($normal) }.
concentration-rank = The mean effective rank of a tensor's delta is { SHORTS($low, $high) }, of at most { COUNT($rank) }.
concentration-nothing = No curve was measured in the view delta, so nothing can be said of concentration.

## Findings: the base model's directions

entries-moved =
    { BASE($model) }Training moves { PERCENTS($low, $high) } of the entries by more than { SETTING($tolerance) } in the view { $view } ({ COUNT($recipes) } { COUNT($recipes) ->
        [one] recipe
       *[other] recipes
    }).{ $seeds }
entries-spread = { " " }Seeds of one recipe differ by at most { PERCENT($spread) } of the whole.
entries-shared_recipe = { BASE($model) }Of the largest { PERCENT($density) } of a model's entries, { PERCENTS($low, $high) } are also among the largest of all other seeds of its recipe (up to { COUNT($models) } models; by chance { SHARE_RANGE($chance_low, $chance_high) }). Where two or more keep an entry, at most { PERCENT($conflict) } of the signs conflict.
entries-shared_seed = { BASE($model) }Of the largest { PERCENT($density) } of a model's entries, { PERCENTS($low, $high) } are also among the largest of all other recipes at its seed (up to { COUNT($models) } models; by chance { SHARE_RANGE($chance_low, $chance_high) }). Where two or more keep an entry, at most { PERCENT($conflict) } of the signs conflict.
entries-nothing = The study did not count entries.
intruders-count = { BASE($model) }Of the top { COUNT($top) } singular vectors of W + delta in each tensor, { PERCENT($low) } ({ $first }) to { PERCENT($high) } ({ $last }) are intruders: their cosine with every singular vector of W is below { SETTING($epsilon) }.{ $seeds }
intruders-left = { BASE($model) }Of what deltas write, { PERCENT($low) } ({ $first }) to { PERCENT($high) } ({ $last }) lies in the base model's top { COUNT($top) } left singular vectors: { SHORTS($times_low, $times_high) } times as much as by chance.{ $seeds }
intruders-right = { BASE($model) }Of what deltas read, { PERCENT($low) } ({ $first }) to { PERCENT($high) } ({ $last }) lies in the base model's top { COUNT($top) } right singular vectors: { SHORTS($times_low, $times_high) } times as much as by chance.{ $seeds }
intruders-spread = { " " }Seeds of one recipe differ by at most { PERCENT($spread) } of the whole.
intruders-most = { BASE($model) }At most { PERCENT($high) } of the top { COUNT($top) } singular vectors of a trained tensor have no counterpart in the base model ({ $last }).
intruders-principal = { BASE($model) }Deltas lie in the base model's top { COUNT($top) } directions { SHORTS($low, $high) } times as much as a random direction would.
intruders-nothing = The study did not compare deltas with the base model's directions (`spectra: base`), or no delta has factors.

## Findings: chained trials

chains-added =
    The child's own change is { PERCENTS($low, $high) } as large as its parent's (L2, { COUNT($count) } chained { COUNT($count) ->
        [one] trial
       *[other] trials
    }).
chains-angle = The angle between the two changes is { DEGREES($low) } to { DEGREES($high) } (90°: unrelated). { COUNT($back) } of { COUNT($count) } turn back (over 100°), and at most { PERCENT($lost) } of the two lengths cancels.
chains-nothing = The study has no chained trial that was measured.

## Findings: along the way

paths-straight =
    { BASE($model) }The path of a training is { SHORTS($low, $high) } times as long as the straight line from its start to its end ({ COUNT($count) } { COUNT($count) ->
        [one] trial
       *[other] trials
    }).
paths-first =
    { BASE($model) }{ $layer } is the first layer to reach half of its final norm in { COUNT($count) } of { COUNT($total) } { COUNT($total) ->
        [one] trial
       *[other] trials
    }.
paths-part =
    { BASE($model) }Two seeds of one recipe have diverged (cosine below 0.5) after { PERCENTS($low, $high) } of the steps ({ COUNT($count) } { COUNT($count) ->
        [one] recipe
       *[other] recipes
    }).
paths-together =
    { BASE($model) }In { COUNT($count) } { COUNT($count) ->
        [one] recipe
       *[other] recipes
    } some seeds have not diverged by the end (cosine 0.5 or more).
paths-nothing = The study did not record the path of any training.

## Findings: lines between models

connectivity-connected = { BASE($model) }{ $a } and { $b } are connected without a barrier: the loss is at most { SHORT($barrier) } nats above the straight line{ $seeds }.
connectivity-below = { BASE($model) }{ $a } and { $b } are connected without a barrier: the loss lies nowhere above the straight line{ $seeds }.
connectivity-barrier = { BASE($model) }Between { $a } and { $b } lies a barrier: the loss of { $data } at t = { SHORT($at) } is { SHORT($barrier) } nats above the straight line{ $seeds }.
connectivity-summary = { BASE($model) }Of { COUNT($pairs) } pairs of recipes { COUNT($connected) } are connected (barrier of at most 0.01 nats a token). The highest barrier lies between { $a } and { $b }: { SHORT($barrier) } nats at t = { SHORT($at) } on { $data }{ $seeds }.
connectivity-all_below = { BASE($model) }All { COUNT($pairs) } pairs of recipes are connected without a barrier: the loss between them lies nowhere above the straight line{ $seeds }.
connectivity-baseline = ; between two seeds of one recipe at most { SHORT($barrier) } nats
connectivity-no_baseline = ; no line between two seeds of one recipe was measured
connectivity-summary_seeds = { BASE($model) }The seeds of { COUNT($connected) } of { COUNT($pairs) } recipes are connected (barrier of at most 0.01 nats a token). The highest barrier lies between two seeds of { $a }: { SHORT($barrier) } nats at t = { SHORT($at) } on { $data }.
connectivity-all_below_seeds = { BASE($model) }The seeds of all { COUNT($pairs) } recipes are connected without a barrier: the loss between them lies nowhere above the straight line.
connectivity-connected_seeds = { BASE($model) }The seeds of { $a } are connected without a barrier: the loss is at most { SHORT($barrier) } nats above the straight line.
connectivity-below_seeds = { BASE($model) }The seeds of { $a } are connected without a barrier: the loss lies nowhere above the straight line.
connectivity-barrier_seeds = { BASE($model) }Between two seeds of { $a } lies a barrier: the loss of { $data } at t = { SHORT($at) } is { SHORT($barrier) } nats above the straight line.
connectivity-missing =
    { COUNT($count) } { COUNT($count) ->
        [one] line has
       *[other] lines have
    } no barrier ({ FIRST_SIX($names) }): { FIRST_SIX($reasons) }.
connectivity-nothing = The study did not measure a line between models (`connectivity`).
## Findings: merges and what they are made of

merges-both =
    { BASE($model) }{ $merge } does both best: it keeps { PARTS($parts) }. { COUNT($both) } of { COUNT($total) } { COUNT($total) ->
        [one] merge keeps
       *[other] merges keep
    } at least half of what each parent gained on held-out data{ $and_style }.
merges-neither =
    { BASE($model) }No merge keeps half of what each parent gained on held-out data{ $and_style }; of { COUNT($total) } { COUNT($total) ->
        [one] merge
       *[other] merges
    } { $merge } comes closest, with { PARTS($parts) }.
merges-and_style = { " " }and of its style
merges-gain = { PERCENT($gain_kept) } of the gain of { $parent } on { $data }{ $style }
merges-style = { " " }(and { PERCENT($kept) } of its style)
merges-style_rate = , style { PERCENT($style) } (its own { PERCENT($own) })
merges-no_gain =
    { BASE($model) }What { COUNT($total) } { COUNT($total) ->
        [one] merge keeps
       *[other] merges keep
    } of the gain of each parent on held-out data is not known: it was not measured, or the parents are equally good on each other's data.
merges-kept = { BASE($model) }Of the largest { PERCENT($density) } of a parent's entries the merges keep the sign of { PERCENTS($low, $high) }; their cosines with the parents are { SHORTS($cosine_low, $cosine_high) }.
merges-one = { PARTS($parts) }.
merges-on = { $parent } on { $data }: loss { SHORT($loss) } (its own { SHORT($loss_parent) }, other parents { SHORT($loss_others) }){ $style }
merges-one_seed = { BASE($model) }Each merge was made at one seed, so how much another seed changes these numbers is not known.
merges-missing =
    { BASE($model) }Loss or rates on a parent's data were not measured for { COUNT($count) } { COUNT($count) ->
        [one] pair
       *[other] pairs
    } of a merge and a parent: { FIRST_SIX($names) }. `raylab run` measures what trials and merges lack; data that the study does not have cannot be asked.
merges-few_prompts = The rates of merges rest on { COUNT($count) } prompts: a rate near 50 % is known within ± { PERCENT($within) }.
merges-undone = No merge of the study is done.
merges-nothing = The study has no merge.

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
    Merged weights in the base model's dtype would change { COUNT($count) } { COUNT($count) ->
        [one] task vector
       *[other] task vectors
    } by { PERCENTS($low, $high) } of their norm, and set up to { PERCENT($zeros) } of their entries to zero.
trust-dequantized =
    Measured from 4-bit weights, { COUNT($count) } { COUNT($count) ->
        [one] task vector
       *[other] task vectors
    } would be wrong by { PERCENTS($low, $high) } of their norm, with up to { PERCENT($zeros) } of their entries zero.
trust-counted =
    { BASE($model) }All { COUNT($comparisons) } { COUNT($comparisons) ->
        [one] comparison
       *[other] comparisons
    } are over the same { COUNT($numel) } entries ({ $universe }).
trust-unequal =
    { BASE($model) }{ COUNT($comparisons) } { COUNT($comparisons) ->
        [one] comparison is
       *[other] comparisons are
    } over { COUNT($low) } to { COUNT($high) } entries; L1 and L2 over different numbers of entries cannot be compared.


## Titles of columns

column-model = base model
column-space = measure
column-effect = two models
column-baseline = two seeds
column-chance = by chance
column-times = times the seed
column-effect_like = same seed
column-pairs = pairs
column-seed_pairs = pairs of seeds
column-p = p
column-p_adjusted = corrected p
column-basis = basis
column-effect_verdict = verdict
column-factor = factor
column-label = recipe
column-difference = difference
column-pair = data pair
column-learning_rate = learning rate
column-seed = seed
column-seeds = seeds
column-norm_factor = ratio of norms
column-norm_spread = ratio between seeds
column-norm_verdict = verdict on size
column-distance = distance (L2)
column-deviation = std. deviation
column-also = also differ in
column-ratio_unlike = different seeds (times)
column-ratio_most = at most (times)
column-boot_low = bootstrap from
column-boot_high = bootstrap to
column-low = 95 % from
column-high = 95 % to
column-mean = mean L2
column-seed_distance = seed-to-seed distance
column-ratio = same seed (times)
column-times_seed = times the seed
column-verdict = verdict on distance
column-seeds_verdict = verdict
column-source = source
column-l2_mean = mean L2
column-l2_deviation = std. deviation
column-l2_low = bootstrap from
column-l2_high = bootstrap to
column-l2_factor = largest / smallest
column-relative_distance = share of its norm
column-norm_of_seed = { $norm } (seed { $seed })
column-response = response
column-level = part
column-key = name
column-df = degrees of freedom
column-sum_squares = sum of squares
column-share = share
column-partial_share = partial share
column-observations = observations
column-residual_df = residual freedom
column-levels = levels
column-silhouette = silhouette
column-stress = stress
column-mean_distance = mean distance
column-seed_share = between seeds / mean
column-within = cosine within levels
column-between = cosine between levels
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
column-what = kind
column-half_l1 = half of L1 in largest
column-half_l2 = half of L2 in largest
column-l2_in_1 = L2 in largest 1 %
column-l2_in_10 = L2 in largest 10 %
column-effective_rank = effective rank
column-density = density
column-num_keep = entries kept
column-threshold = threshold
column-at_or_above = entries at or above
column-l1_share = share of L1
column-l2_share = share of L2
column-l2_parent = L2 of parent
column-l2_child = L2 of child
column-angle = angle
column-top = top vectors
column-epsilon = epsilon
column-intruder_share = intruders
column-intruder_spread = intruders, between seeds
column-share_left = in left
column-left_spread = left, between seeds
column-left_times = left, times chance
column-share_right = in right
column-right_spread = right, between seeds
column-right_times = right, times chance
column-cancellation = cancelled
column-child_share = child / parent
column-numel = entries
column-merged_error = error merged
column-merged_false_zeros = zeros merged
column-dequantized_error = error from 4 bits
column-dequantized_false_zeros = zeros from 4 bits
column-universe = entries of
column-comparisons = comparisons
column-length = path length
column-displacement = displacement
column-length_ratio = length / displacement
column-first = first layer
column-first_at = at share of the steps
column-steps = steps
column-records = records
column-parted = diverged after
column-last_cosine = final cosine
column-data = data
column-barrier = barrier (nats)
column-at = at t
column-seed_barrier = between seeds (nats)
column-seeds_of = seeds of
column-loss_a = loss of first
column-loss_b = loss of second
column-points = points
column-merge = merge
column-parent = parent
column-sweep = merge
column-setting = setting
column-swept_value = value
column-curve = at
column-loss = loss
column-loss_parent = loss of parent
column-loss_others = loss of other parents
column-gain_kept = gain kept
column-gain_spread = gain, between seeds
column-style_kept = style kept
column-merge_losses = loss (nats a token): merge / parent / other parents
column-merge_style_rate = style: merge / parent / other parents
column-merge_japanese_rate = Japanese: merge / parent
column-merge_stopped_rate = stopped: merge / parent
column-merge_repetition_rate = repetition: merge / parent
column-survived_share = signs kept
column-zero_share = zero in the merge
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
column-over_chance = times chance
column-in_common = in common
column-common_by_chance = in common by chance
column-some_share = by some
column-one_share = by one
column-none_share = by none
column-sign_conflict = signs conflict
column-cka = CKA
column-seeds_cka = CKA of two seeds
column-answers = answers
column-position = place
column-token = token
column-kl = KL (nats)
column-p_a = p of first
column-p_b = p of second
column-top_a = first predicts
column-top_b = second predicts
column-prompt = prompt
column-l1_printed = L1 published
column-l1_measured = L1 measured
column-l1_ratio = L1 ratio
column-l2_printed = L2 published
column-l2_measured = L2 measured
column-l2_ratio = L2 ratio

## Verdicts, in sentences and in cells

verdict-stable = stable
verdict-varies = varies
verdict-seed = depends on the seed
verdict-zero = zero at a seed
verdict-one_seed = one seed only
verdict-some_seeds = not all seeds

short-baseline = { verdict-baseline }
short-most = { verdict-most }
short-part = { verdict-part }
short-little = { verdict-little }
short-beyond = { verdict-clear }
short-near = { verdict-weak }
short-within = { verdict-noise }
short-open = inconclusive
short-unknown = { verdict-missing }
short-stable = { verdict-stable }
short-varies = { verdict-varies }
short-seed = { verdict-seed }
short-zero = { verdict-zero }
short-one_seed = { verdict-one_seed }
short-some_seeds = { verdict-some_seeds }

## Figures: captions, axes, legends

caption-effects = { BASE($model) }Each dot is two recipes that differ in one factor; right of the band they differ by more than two seeds do ({ COUNT($count) } dots).
caption-cka = { BASE($model) }The lower a line, the more the hidden states of two models that differ in that factor differ at that layer (0: embeddings). Dashed: two seeds of one recipe.
caption-floor = { BASE($model) }Each dot is two recipes that differ in one factor, at the same seed; left of the line another seed moves a model further than the factor does.
caption-seeds = { BASE($model) }Where the bars of a pair are equally long, the norm does not depend on the seed (L2 of the difference of two models that differ in data).
caption-attribution = { BASE($model) }The longer a part, the more of the variance of { WORD($response) } goes with that factor. Factors that are not separable in this design share a colour.
caption-similarity = { BASE($model) }Each cell is two models; blocks of one colour along the diagonal are models that changed alike. The strips on the left say what each model is.{ $left } Shown: { $label }.
caption-map = { BASE($model) }Points that lie close together are models that differ little ({ COUNT($count) } models; colour: a factor, shape: the seed). Shown: { $label }.
caption-similarity-recipes = { " " }Means over seeds, because there are { COUNT($models) } models.
caption-heatmap = { BASE($model) }The brighter a cell, the more that layer and module kind changed ({ $measure }, mean over seeds). Shown: { $label }.
caption-curve = { BASE($model) }The higher a line, the more of { $norm } lies in few entries (dots: the study's densities; dotted line: independent normal entries). Shown: { COUNT($shown) } of { COUNT($total) } curves, one seed each.
caption-intruders = { BASE($model) }Right of the line, deltas lie in the base model's top { COUNT($top) } singular vectors more than a random direction would (mean over seeds).
caption-chains = { BASE($model) }What the parent changed, what the child added, and both together (L2). A whole that is shorter than the parent's part means that the child undid some of it.
caption-paths = { BASE($model) }The earlier a line rises, the earlier that layer moved: its norm during training as a share of its final norm. Shown: { $label }.
caption-connectivity = { BASE($model) }A line that rises above 0 crosses a barrier: held-out loss on the way from one model (t = 0) to another (t = 1), above the straight line; dashed: two seeds of one recipe. Shown: { $label }.
caption-merges = { BASE($model) }The held-out loss of a merge on the data of each parent, along a sweep; dashed: the parent that learned the data, dotted: the mean of the other parents. Shown: { $label }.
caption-merge_rates = { BASE($model) }A rate of a merge's answers to the prompts of each parent's data, along a sweep; dashed: the parent that learned the data, dotted: the mean of the other parents. Shown: { $label }.
chart-cut = { COUNT($shown) } of { COUNT($total) } are shown.
axis-times = times what another seed does
axis-cka = CKA
axis-ratio = times the seed-to-seed distance
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
reading-overlap = how many times as many in common as by chance
axis-kept = share of entries kept, largest first
axis-norm_share = share of the norm
axis-times_chance = times the share of a random direction
axis-step = step
axis-path = share of the final norm
axis-t = t
axis-excess = loss above the straight line (nats a token)
axis-loss = loss (nats a token)
axis-swept = value of the setting
axis-merge_rate = share of answers
legend-line = line
legend-merge = merge
legend-parent_data = data of a parent
merge-on_data = { $data } ({ $parent })
merge-line_merge = merge
merge-line_own = parent that learned the data
merge-line_others = other parents
line-difference = two recipes
line-seeds = two seeds
line-of_seeds = seeds of { $label }
legend-cka = two recipes
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
choose-rate = rate
level-none = none
side-left = left (written to)
side-right = right (read from)
part-l2_parent = parent
part-l2_child = child
part-l2 = whole
place-all = all
normal = independent normal entries
measure-relative_l2 = L2 relative to the base model's weights
measure-l2 = L2 norm

## What the numbers mean; all formulas are in docs/method.md

define-task_vector-head = task vector
define-task_vector-text = the weights of a trained model minus those of its base model: all that training changed; also called delta.
define-norms-head = L1, L2
define-norms-text = the size of a change: the sum of the magnitudes of its entries (L1), and the root of the sum of their squares (L2).
define-pair-head = data pair
define-pair-text = two trials with the same base model, method, seed, learning rate and parent, and with different data.
define-factor-head = largest / smallest
define-factor-text = the largest L2 over the smallest of all seeds: up to 1.25 it is stable, up to 2 it varies, above 2 it depends on the seed.
define-effect-head = two models, two seeds, times the seed
define-effect-text = the mean over two models that differ in the factor, the mean over two seeds of one recipe, and the first divided by the second.
define-cka-head = CKA
define-cka-text = how similar the hidden states of two models are at the tokens of held-out answers: 1 means equal up to rotation and scale, 0 unrelated.
define-tokens-head = p of a token
define-tokens-text = the probability that a model gives the next token after the prompt and the answer so far.
define-floor-head = same seed, different seeds (times)
define-floor-text = the distance of two recipes over the seed-to-seed distance; at different seeds up to 1.25 is within seed noise, and from 2 on clear.
define-norms_differ-head = ratio of norms, ratio between seeds
define-norms_differ-text = the larger mean L2 over the smaller, and the largest L2 over the smallest of one recipe; of their logarithms, a ratio from 2 on is clear.
define-distance-head = distance, seed-to-seed distance
define-distance-text = the L2 of the difference of two task vectors, measured or computed from their norms and cosine; of two seeds of one recipe.
define-interval-head = bootstrap, 95 %
define-interval-text = a 95 % interval: of means over three seeds or more by bootstrap, of partial shares by the noncentral F distribution.
define-share-head = share of variance
define-share-text = the part of the variance that goes with a factor; the partial share is that over the factor and the residual alone.
define-cosine-head = cosine
define-cosine-text = whether two task vectors point the same way: 1 is the same direction, 0 unrelated, -1 opposite.
define-kl-head = KL
define-kl-text = how much the next-token predictions of two models differ, in nats a token; 0 means equal (Kullback-Leibler divergence, mean of both directions).
define-silhouette-head = silhouette
define-silhouette-text = how much nearer a model is to its own group than to the next one, from -1 to 1; from 0.5 on groups are clear.
define-stress-head = map, stress
define-stress-text = places in two dimensions that keep the distances of models as well as possible, and the share that is lost: 0 is exact, from 0.2 on it is rough.
define-relative-head = relative L2
define-relative-text = the L2 of a change over the L2 of the base model's weights in the same tensors.
define-density-head = density, entries kept
define-density-text = the share of all entries that is kept, the largest magnitudes first, and their number.
define-threshold-head = threshold, entries at or above
define-threshold-text = the smallest magnitude that is kept, and the number of entries that reach it; equal magnitudes make it more than were kept.
define-half-head = half of L1, L2 in largest
define-half-text = the share of entries, the largest first, that holds half of the norm.
define-rank-head = effective rank
define-rank-text = how many directions a delta uses: exp of the entropy of its singular values over their sum, the mean over tensors.
define-barrier-head = barrier
define-barrier-text = the most that the held-out loss between two models lies above the straight line, in nats a token; up to 0.01 they count as connected.
define-intruder-head = intruders
define-intruder-text = the share of the top left singular vectors of W + delta whose cosine with every singular vector of the base model's W is below epsilon.
define-principal-head = in left, in right
define-principal-text = the share of a delta's squared L2 in the base model's top left singular vectors, which it writes to, or right ones, which it reads from.
define-chain-head = angle, cancelled
define-chain-text = the angle between the child's change and its parent's, and the share of both lengths that cancels: 1 - |p + c| / (|p| + |c|).
define-answers-head = style, Japanese, stopped, repetition
define-answers-text = the shares of sample answers that end in the study's style, are Japanese, end before the output limit, and repeat themselves.
define-marked-head = marked
define-marked-text = a model whose rates break the study's limits, where the data's own answers keep them.
define-merge-head = merge
define-merge-text = several models combined into one checkpoint, in the base model's dtype; its L2 is that of its difference from the base model.
define-missing-head = –
define-missing-text = not measured; numbers are rounded here and have all their digits in the CSV files.

## Two models, and a merge

difference-settings = view { $view }, universe { $universe }
difference-answer = The two models are { SHORT($l2) } apart (L2){ $relative }; { SHARE($moved) } of { COUNT($numel) } entries differ by more than { SETTING($tolerance) }.
difference-relative = , which is { SHARE($share) } of the L2 of the base model's weights
difference-same = The two models are the same in all { COUNT($numel) } entries compared.
difference-base = Their changes from the base model have a cosine of { COSINE($cosine) } (1: one direction, 0: unrelated), and an L2 of { SHORT($l2_a) } for a and { SHORT($l2_b) } for b{ $signs }.
difference-signs = ; { SHARE($share) } of the entries that both change have one sign
difference-base_itself = At least one of the two is the base model itself (L2 of the change: { SHORT($l2_a) } for a, { SHORT($l2_b) } for b), so that the changes have no angle.
difference-nothing_in_common = The two adapters change no tensor in common; what one lacks counts as 0.
difference-left_out = { COUNT($count) } of { COUNT($total) } entries were not compared; the last section counts them by reason.
difference-section-where = Where do they differ?
difference-section-largest = Is the difference concentrated in few entries?
difference-section-entries = Which entries were compared?
difference-kind = By module kind, most of the difference is in “{ $kind }”: { SHARE($share) } of the squared L2.
difference-layer = By layer, most of it is in layer { $layer }: { SHARE($share) }.
difference-caption = The brighter a cell, the more that layer and module kind differs ({ $measure }).
difference-grid-layers = Norms by layer and module
difference-grid-densities = Only the largest differences
difference-grid-curve = Share of the norms in the largest differences
difference-share = The largest { PERCENT($density) } of the entries hold { SHARE($share) } of the L2.
difference-fate = what became of them
difference-compared = compared
difference-tied = tied to another tensor, counted there
difference-only_in_a = in a only
difference-only_in_b = in b only
difference-cropped = beyond the other's shape
difference-skipped = left out
difference-non_finite = NaN or infinite
merge-base = base model { $base }
merge-no_base = without a base model
merge-counts =
    The checkpoint has { COUNT($numel) } entries; { COUNT($tensors_merged) } { COUNT($tensors_merged) ->
        [one] tensor was
       *[other] tensors were
    } merged, { COUNT($tensors_copied) } copied.
merge-adapter-exact =
    The adapter has { COUNT($parameters) } parameters and rank { $r } or less. It is exactly the merged
    task vector, up to float32 rounding.
merge-adapter-near =
    The adapter has { COUNT($parameters) } parameters and rank { $r } or less. Its distance from the merged task
    vector is { SHORT($error) } of that vector's L2 norm.
merge-untied = { LIST($names) }: a weight of its own now, which the base model ties to another.
merge-section-models = What was kept of each model?
merge-section-slices = Where did the layers come from?
merge-section-adapter = What was lost in each tensor?
merge-section-tokens = Where do the rows of tokens come from?
merge-section-files = Which files does the folder have?
merge-grid-models = What was kept of each model{ $model }
merge-grid-tensors = By tensor: { $model }
merge-grid-slices = Layers, and the layers that each was merged of{ $model }
merge-grid-ranks = Ranks, and the distance from the merged task vector{ $model }
merge-grid-origins = Rows of tokens by their origin{ $model }
merge-grid-vocabularies = Tokens of each model, and rows of its matrices{ $model }
merge-grid-files = Files, sizes and checksums{ $model }
merge-origin-in_all = tokens of all models, merged
merge-origin-asked = tokens with a row that was asked for
merge-origin-only = tokens of one model alone: its row
merge-origin-base = tokens that a model lacks: the base model's row
merge-origin-mean = tokens that the base model and another lack: the mean row
merge-origin-zero = tokens that no model has a row for: zeros
merge-origin-padding = no token: the mean of a model's rows
merge-tokens-zero =
    { COUNT($count) } { COUNT($count) ->
        [one] token has
       *[other] tokens have
    } a row of zeros, since no model has one.
merge-tokens-literal =
    { COUNT($count) } { COUNT($count) ->
        [one] word
       *[other] words
    } of other tokenizers became added tokens, which text has to hold letter for letter.
merge-column-model = model
merge-column-weight = weight
merge-column-kept = merged and not zero
merge-column-kept_share = share
merge-column-tensor = tensor
merge-column-layers = layers
merge-column-sources = merged of
merge-column-rank = rank
merge-column-relative_error = relative error
merge-column-file = file
merge-column-size = size
merge-column-sha256 = SHA-256
merge-column-origin = origin
merge-column-rows = rows
merge-column-tokens = tokens
merge-column-only = in it alone
merge-column-used = rows used
merge-column-left_out = rows left out

## Two studies side by side

compare-title = { $one } and { $other }
compare-number = { $metric } of { $name }
compare-count = { $metric } ({ COUNT($count) })
compare-answer-moved = { COUNT($moved) } of { COUNT($total) } numbers moved by more than the seed; the largest change is that of { $number }, from { SHORT($one) } to { SHORT($other) }, { $times } the seed-to-seed spread.
compare-answer-none = No number moved by more than the seed: { COUNT($changed) } of { COUNT($total) } changed, most of all { $number }, from { SHORT($one) } to { SHORT($other) }, { $times } the seed-to-seed spread.
compare-answer-same = All { COUNT($total) } numbers are the same in both studies.
compare-answer-unknown = { COUNT($changed) } of { COUNT($total) } numbers changed, and no seed-to-seed spread is known that says whether the seed did it.
compare-answer-nothing = The two studies share no number.
compare-agree = beyond
compare-verdict_differs = { $factor } on the { WORD($space) } ({ $verdict_one } in { $one }, { $verdict_other } in { $other })
compare-verdicts-differ =
    { COUNT($count) } of { COUNT($total) } { COUNT($total) ->
        [one] verdict
       *[other] verdicts
    } on factors { COUNT($count) ->
        [one] differs
       *[other] differ
    }: { FIRST_SIX($verdicts) }.
compare-verdicts-same =
    { COUNT($total) ->
        [one] The verdict on the factor is
       *[other] All { COUNT($total) } verdicts on factors are
    } the same in { $one } and in { $other }.
compare-chart-title = More than seed noise: { LIST($counts) }
compare-chart-none = None of { COUNT($count) } changed numbers moved twice as much as the seed moves it
compare-chart-summary = Dots on a logarithmic axis, one row for each metric ({ LIST($metrics) }): how many times the seed-to-seed spread each of { COUNT($count) } numbers changed from one study to the other.
compare-chart-axis = change over the seed-to-seed spread (logarithmic)
compare-of-trial = numbers of a trial
compare-of-comparison = numbers of a difference
compare-dot = { $number }: { SHORT($one) } to { SHORT($other) }, { $times }
compare-asked-several = The studies differ in { COUNT($count) } settings at once, so no single one of them explains a change.
compare-only =
    { COUNT($count) } { COUNT($count) ->
        [one] number is
       *[other] numbers are
    } in one study only: { COUNT($in_one) } in { $one }, { COUNT($in_other) } in { $other }.
compare-no_spread =
    { COUNT($count) } of { COUNT($changed) } changed { COUNT($changed) ->
        [one] number has
       *[other] numbers have
    } one seed only, so that the seed's part in the change is not known.
compare-section-asked = What was asked differently?
compare-section-moved = Which numbers changed by more than the seed?
compare-section-same = What stayed the same?
compare-section-only = What is in one study only?
compare-section-sentences = What do the verdicts rest on?
compare-asked-same = Both studies ask the same.
compare-asked-count =
    { COUNT($count) } { COUNT($count) ->
        [one] field of the study files differs
       *[other] fields of the study files differ
    }; a dash stands for a field that is not set.
compare-field = field
compare-moved = { COUNT($beyond) } changed by twice the seed-to-seed spread or more, { COUNT($near) } by little more than the spread.
compare-moved-none = No change is larger than 1.25 times the seed-to-seed spread.
compare-reading = The spread of a number is the largest minus the smallest value over the seeds of one recipe, or of one difference of two recipes; that of the study where it is larger counts. A change of up to 1.25 times the spread is within seed noise, one of twice the spread or more is more than the seed. Where all seeds agree exactly, every change is more than the seed (∞).
compare-same = { COUNT($same) } numbers are the same to the last bit, { COUNT($within) } changed within seed noise, { COUNT($unknown) } changed without a known spread.
compare-only-of =
    { COUNT($count) } { COUNT($count) ->
        [one] number is
       *[other] numbers are
    } known in { $study } alone: those of { FIRST_SIX($names) }.
compare-grid-moved = Numbers that changed by more than the seed
compare-grid-within = Numbers that changed within seed noise
compare-grid-unknown = Numbers that changed without a known spread
compare-grid-only_one = Numbers in { $study } only
compare-grid-only_other = { compare-grid-only_one }
compare-model = trial or difference
compare-metric = metric
compare-spread = spread
compare-times = times the spread
compare-verdict = verdict
compare-beyond = more than the seed
compare-near = little more than the seed
compare-within = { verdict-noise }
compare-unknown = spread not known
