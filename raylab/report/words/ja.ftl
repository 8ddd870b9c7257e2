### レポートの日本語メッセージ。構文: https://projectfluent.org/fluent/guide
### 関数（NUMBER、PERCENT など）の意味は en.ftl の冒頭を参照。

## The page: headings, captions, notes

page-figure = 図
page-no_rows = 行がありません。
page-filter = 絞り込み
page-copy = コピー
page-copied = コピーしました
page-click = セルをクリックするとその層が表示されます。
page-layer = 第{ $layer }層
page-kind = { axis-kind }
section-effects = シードと比べて意味があるか
section-floor = シードの基準
section-seeds = シード間のノルム
section-attribution = 手法・データ・シード・学習率のどれによるか
section-similarity = どのモデルが似た動きをしたか
section-where = どこが動いたか
section-functions = 何を予測するか
section-concentration = どれだけ集中しているか
section-entries = どの要素が動くか
section-intruders = ベースモデルの方向に沿っているか
section-chains = 連鎖した学習
section-paths = 学習の経路
section-connectivity = モデル間の線
section-trust = どこまで信頼できるか
section-answers = モデルの回答
section-trials = 学習の一覧
section-numbers = 数値の定義
section-tables = 表の所在
unit-trial = 学習{ COUNT($count) }件
unit-trial-alone = 件の学習
unit-merge-alone = 件のマージ
unit-trials_and_merges = 学習{ COUNT($trials) }件とマージ{ COUNT($merges) }件
status-done = 完了
status-failed = 失敗
status-blocked = 中止
status-running = 実行中
status-pending = 待機中
lead = { $adapter }{ $rates }密度：{ $densities }。
lead-state = { $status }{ $count }
lead-no_recipe = レシピなし
lead-seeds = シード{ LIST($seeds) }
studied-recipes = { COUNT($count) }レシピ（{ LIST($methods) }）
studied-data = データ{ LIST($data) }
studied-trials = { $amount }（{ LIST($states) }）
studied-separator = { " " }·{ " " }
lead-rates = 学習率：{ LIST($rates) }。
page-glossary = 用語と数値
lead-adapter = ベースモデルは{ $base }で保持します。LoRAはr = { $r }、alpha = { SETTING($alpha) }、dropout { SETTING($dropout) }、対象は{ $where }{ $stabilised }（レシピの指定が優先）。
lead-bits_16 = 16ビット（{ $dtype }）
lead-bits_4 = 4ビット（{ $type }、{ $dtype }）
lead-bits_4_double = 4ビット（{ $type }、二重量子化、{ $dtype }）
lead-all_linear = すべての線形層
lead-stabilised = （ランク安定化）
grid-effects = 各要因とシードの比較
grid-effect_pairs = 二つのレシピとシードの比較
grid-differences = シードと比べた各差分
grid-floor = 各レシピに対するシードの影響
grid-seeds_like = 同じ学習率
grid-seeds_unlike = 異なる学習率
grid-attribution = 分散の割合
grid-silhouette = モデルはまとまるか
grid-neighbours = 各モデルに最も似たモデル
grid-where = 層とモジュール別
grid-cka_by_layer = 層ごとの類似
grid-tokens = 予測が最も異なるトークン
grid-concentration = 集中度
grid-densities = 大きい値のみ
grid-moved = 動いた要素
grid-shared = 複数のモデルが残す要素
grid-intruders = 侵入次元とベースモデルの上位方向の割合
grid-chains = 親・子・全体
grid-paths = 経路の長さ
grid-parting = シードの分岐
grid-barriers = 損失の障壁
grid-audit = 精度の監査
grid-counted = 数えた要素
grid-trials = すべての学習
grid-printed = 既報の値との比較
grid-likelihoods = 未学習の回答の尤度
grid-cut = { COUNT($total) }行中{ COUNT($shown) }行。全体：{ $file }。
grid-whole = 全{ COUNT($total) }行。ファイル：{ $file }。
note-printed = 既報の値は各出典によります。比は測定値／既報値です。
note-likelihoods = 全{ COUNT($count) }モデル。未学習プロンプトに対する各データの回答の、トークンあたり平均対数確率（nat）。
note-trials = 全{ $amount }。
marks-marked = 印：{ $marks }。{ $compared }
marks-compared = 比較：{ FIRST_SIX($names) }。
trouble = { $status }：{ $what }
trouble-unknown = 原因不明
missing-comparisons = 予定した比較{ COUNT($planned) }件のうち{ COUNT($missing) }件が未測定です：{ FIRST_SIX($names) }。
answers-none = { $model }：ベースモデルから始まるレシピの回答例がありません。
answers-title = ベースモデル{ $model }、シード{ $seed }
answers-expected = データの回答
answers-note = プロンプト{ COUNT($prompts) }件のうち{ COUNT($shown) }件、モデル{ COUNT($recipes) }件。すべての回答はsamples表にあります。
page-search = プロンプトと回答を検索
page-more_prompts = プロンプト{ $count }件すべてを表示
answers-missing = （回答なし：{ $status }）
answers-empty = （空）
answers-endless = { $text }［停止せず］
merge-said = { LIST($inputs) }の{ $title }（{ $paper }）{ $more }。
merge-input = { $model }（重み{ SETTING($weight) }{ $kept }）
merge-random = 、無作為に{ SETTING($density) }を保持{ $scope }
merge-largest = 、大きい方から{ SETTING($density) }を保持{ $scope }
merge-all = { $scope }
merge-scope-global = （タスクベクトル全体）
merge-scope-tensor = （テンソルごと）
merge-scaling = ；lambda { SETTING($scaling) }
merge-seed = ；シード{ $seed }
places-parquet = Parquet
places-csv = CSV
places-figures = 図
places-latex = LaTeX
places-as = { $address }（SVGとPNG）
places-empty = 行のない表
places-left-out = 同じ場所にあるが、この表にはない結果

## Findings: what sentences are made of

factor-method = 手法
factor-data = データ
factor-seed = シード
factor-seed_init = A（アダプターの初期値）のシード
factor-seed_order = データ順のシード
factor-seed_dropout = ドロップアウトのシード
factor-learning_rate = 学習率
factor-parent = 親モデル
factor-residual = 残差
factor-unassigned = 分離できない分
word-log_l2 = L2の対数
word-log_relative_l2 = 相対L2の対数
word-cosine = コサイン
word-far = 変化の大きさ
word-where = 変化の向き
word-delta = delta全体
word-function = 予測
word-descriptive = 記述的
word-permutation = 並べ替え検定
word-task_vector = タスクベクトル
word-difference = 差分
share-with = { FACTOR($factor) }{ SHARE($share) }
seed-value = { SHORT($value) }（シード{ $seed }）
seed-missing = 未測定（シード{ $seed }）
with-subject = { $subject }：{ $text }
list-comma = 、
some-more = { $shown }ほか{ $more }件
answer-all = { $subject }シードを変えたときの差と比べると、{ LARGEST($largest) }です。{ COUNT($total) }要因すべてがシードによる差を上回ります。
answer-some = { $subject }シードを変えたときの差と比べると、{ LARGEST($largest) }です。シードによる差を上回るのは{ COUNT($kept_count) }要因（{ FACTORS($kept) }）で、{ FACTORS($rest) }は上回らないか未測定です。
answer-noise = { $subject }シードによる差を上回る要因はありません。{ LARGEST($largest) }です。
answer-unknown = { $subject }シードを変えたときの差と比べられる測定がなく、何がモデルを動かすかはまだ分かりません。
answer-no_factor = { $subject }一つの要因だけが異なるレシピの組がなく、どの要因がモデルを動かすかは分かりません。
answer-part = { LIST($spaces) }を最も左右するのは{ FACTOR($factor) }
answer-space = { WORD($space) }（{ TIMES($times) }）
answer-base = { $base }：
list-and = 、
effects-number = { TIMES($times) }
chart-effects-title = 二つのレシピの比較{ COUNT($total) }件のうち{ COUNT($above) }件は、シード間の差より大きく異なります
chart-effects-summary = 要因（{ LIST($factors) }）ごとの行に、一つの要因だけが異なる二つのレシピの差が、シードを変えたときの差の何倍かを対数軸上の点で示します。{ COUNT($total) }点のうち{ COUNT($above) }点がシードのばらつきの帯の右にあります。
chart-effects-dot = { $pair }、{ WORD($space) }：シードによる差の{ TIMES($times) }
chart-effects-axis = シードを変えたときの差の何倍か（対数）
chart-effects-band = シードのばらつき
page-cautions = 注意点
page-more_cautions = 結果の制約がほかに{ COUNT($count) }件あります
page-verdicts = 各要因の影響（シードを変えたときとの比較）
page-contents = 目次
page-factor = 要因
page-randomness = 乱数
page-reading = 図の読み方
page-details = 文章で見る
page-all_rows = { $count }行すべてを表示
page-csv = CSV
page-scroll = 右にも列があります →
page-no_script = この図はスクリプトで描かれますが、ここでは無効です。値は下の表にあります。
read-effects = ...
read-floor = ...
read-seeds = ...
read-attribution = ...
read-similarity = ...
read-where = ...
read-functions = ...
read-concentration = ...
read-entries = ...
read-intruders = ...
read-chains = ...
read-paths = ...
read-connectivity = ...
read-trust = ...
verdict-clear = 明確
verdict-weak = 弱い
verdict-noise = シードのばらつきの範囲内
verdict-missing = 未測定
verdict-baseline = シードの基準
verdict-most = シードの差のほぼ全部
verdict-part = シードの差の一部
verdict-little = シードの差のごく一部

## Findings: does a factor matter?

effects-answer = { $model }（シードを変えたときの差の何倍か）。変化の大きさ：{ EFFECTS($far) }。変化の向き：{ EFFECTS($where) }。予測：{ EFFECTS($function) }。
effects-beyond = { LIST($factors) }は明確
effects-near = { LIST($factors) }は弱い
effects-within = { LIST($factors) }はシードのばらつきの範囲内
effects-unknown = { LIST($factors) }は未測定
effects-none = 未測定
effects-times = { FACTOR($factor) }（{ TIMES($times) }）
effects-no_end = ∞倍
effects-finite = { SHORT($times) }倍
effects-factor = { SENTENCES($parts) }{ ALSO($also) }{ $settle }
effects-far = 変化の大きさ：二つのモデルのノルムは{ RATIO($effect) }、シード間では{ RATIO($baseline) }異なり、シードによる差の{ TIMES($times) }です{ $p }（{ EFFECT_PAIRS($counts) }）。
ratio-factor = { SHORT($ratio) }倍
ratio-percent = { SHORT($percent) } %
effects-far-unknown = 変化の大きさ：シードとの比較は未測定です。
effects-far-baseline = 変化の大きさ：同じレシピの二つのシードのノルムは{ RATIO($effect) }異なります（{ COUNT($pairs) }組）。ほかの行は、比の対数がこの何倍かを表します。
effects-where = 変化の向き：二つのモデルの出力側の重なりは{ SHORT($effect) }、シード間では{ SHORT($baseline) }、偶然では{ SHORT($chance) }で、偶然を超える重なりはシード間のほうが{ TIMES($times) }大きい値です{ $p }（{ EFFECT_PAIRS($counts) }）。
effects-where-unknown = 変化の向き：シードとの比較は未測定です。
effects-where-baseline = 変化の向き：同じレシピの二つのシードの出力側の重なりは{ SHORT($effect) }、偶然では{ SHORT($chance) }です（{ COUNT($pairs) }組）。ほかの行はこの何倍かを表します。
effects-delta = 同じAから始まるdelta全体：距離は{ SHORT($effect) }、同じレシピでは{ SHORT($baseline) }で、その{ TIMES($times) }です{ $p }（{ EFFECT_PAIRS($counts) }）。
effects-delta-unknown = 同じAから始まるdelta全体：未測定です。
effects-delta-baseline = 同じAから始まるdelta全体：同じレシピの二つのモデルの距離は{ SHORT($effect) }です（{ COUNT($pairs) }組）。
effects-function = 予測：二つのモデルの距離は1トークンあたり{ SHORT($effect) }ナット（KL）、シード間では{ SHORT($baseline) }ナットで、その{ TIMES($times) }です{ $p }（{ EFFECT_PAIRS($counts) }）。
effects-function-unknown = 予測：シードとの比較は未測定です。
effects-function-baseline = 予測：同じレシピの二つのシードの距離は1トークンあたり{ SHORT($effect) }ナットです（KL、{ COUNT($pairs) }組）。ほかの行はこの何倍かを表します。
effects-part = { WORD($space) }：これだけが異なる同じレシピの二つのモデルの差は、すべてが異なる二つのシードの差の{ TIMES($times) }です（{ COUNT($pairs) }組）。
effects-p = （p = { SHORT($p) }）
effects-pairs = モデルの組{ COUNT($pairs) }、シードの組{ COUNT($seed_pairs) }
effects-settle-all = 判定できません。すべてがシードのばらつきの範囲内です。シードまたは評価用プロンプトを増やすと判定できます。
effects-settle-functions = 判定できません。測定したものはすべてシードのばらつきの範囲内です。シードを増やすか、モデルの予測（evaluation: functions）を測ると判定できます。
effects-seed_part = { $model }：{ FACTOR($part) }だけが異なる同じレシピの二つのモデルの距離は、すべてが異なる二つのシードに対し、delta全体で{ SHORT($delta) }倍、出力側で{ SHORT($where) }倍、予測で{ SHORT($function) }倍です。
effects-tied = 一つの数がアダプターの初期値、データの順序、ドロップアウトのシードを兼ねるため、それぞれの影響は分離できません。`seeds`に`init`と`order`を与えると分離できます。
effects-tested = { $model }：{ COUNT($total) }件の判定のうち{ COUNT($tested) }件はラベルの並べ替え検定（要因についてHolmの補正）によります。残りは記述的です。
effects-too_few = 判定は記述的なものです。シードが少ないため、並べ替え検定のp値は{ SHORT($least) }を下回りません。
effects-descriptive = 判定は記述的なものです。検定には{ COUNT($seeds) }個のシードが必要です。

## Findings: the seed baseline

share-little = 0.1 %未満
floor-also = これらのレシピは{ LIST($names) }も異なります。
list-semicolon = 、
list-sentences = {""}
floor-no_difference = { $model }：一つの要因だけが異なるレシピの組がないため、シードと比べられる要因がありません。
floor-nothing = 学習と測定が済んだモデルがまだありません。
floor-spread = { $model }：同じレシピのL2ノルムは、シード間で{ RATIO($low) }〜{ RATIO($high) }異なります（{ COUNT($recipes) }レシピ）。
floor-apart = { $model }：シード間の距離は、レシピ自身のノルムの{ PERCENT($low) }〜{ PERCENT($high) }です（{ COUNT($recipes) }レシピ）。
floor-one_seed = シードが一つ（{ $seed }）だけのため、どの差もシードのばらつきと比べられません。シードをもう一つ加えると基準が得られます。
seeds-summary = { $model }：データの組{ COUNT($total) }件のうち、シード間でL2ノルムが安定している（最大と最小の比が1.25以下）のは{ COUNT($stable) }件、ばらつくのは{ COUNT($varies) }件、シードによって変わるのは{ COUNT($seed) }件です。比の最大は{ SHORT($ratio) }（{ $pair }、学習率{ SETTING($learning_rate) }）です。
seeds-unknown = { $model }：データの組{ COUNT($total) }件のノルムは、二つのシードで測定されていません。

## Findings: norms over seeds

seeds-stable = { $pair }（学習率{ SETTING($learning_rate) }）：シード間で安定しています（{ SHORT($ratio) }倍）。L2 { BY_SEED($l2) }。
seeds-varies = { $pair }（学習率{ SETTING($learning_rate) }）：シード間でばらつきます（{ SHORT($ratio) }倍）。L2 { BY_SEED($l2) }。
seeds-seed = { $pair }（学習率{ SETTING($learning_rate) }）：シードだけでノルムが{ SHORT($ratio) }倍変わります。この学習率で手法を比べてはいけません。L2 { BY_SEED($l2) }。
seeds-zero = { $pair }（学習率{ SETTING($learning_rate) }）：ノルムがゼロのシードがあり、倍率を求められません。L2 { BY_SEED($l2) }。
seeds-one_seed = { $pair }（学習率{ SETTING($learning_rate) }）：シードが一つだけのため、安定性は分かりません。L2 { BY_SEED($l2) }。
seeds-some_seeds = { $pair }（学習率{ SETTING($learning_rate) }）：{ COUNT($seeds) }シード中{ COUNT($measured) }シードだけ測定されており、安定性は分かりません。L2 { BY_SEED($l2) }。
seeds-nothing = ベースモデル、手法、シード、学習率、親モデルが同じでデータだけが異なり、deltaで測定されたモデルの組がないため、シード間については何も言えません。
seeds-others = norms表の比較のうち{ COUNT($count) }件はデータの組ではなく、二つの表には載っていません。

## Findings: what goes with what

attribution-shares = { $model }：{ COUNT($observations) }件の観測における{ WORD($response) }の分散の内訳は、{ SHARES($parts) }、残差{ SHARE($residual) }です{ UNASSIGNED($unassigned) }。
attribution-overlap = （計画が釣り合っていないため割合は{ PERCENT($share) }重複）
attribution-unassigned = （計画が釣り合っていないため{ PERCENT($share) }は複数の要因に共通）
attribution-saturated = { $model }：{ COUNT($observations) }件の観測における{ WORD($response) }の分散の内訳は、{ SHARES($parts) }です。残差の自由度がない（残差{ PERCENT($residual) }）ため、記述にとどまり区間はありません。
attribution-inseparable = { $model }：{ FACTORS($factors) }はこの実験計画では分離できません。一方が他方の一つの水準の中でしか変わらないためです。
attribution-constant = { $model }：この研究で変えられていないため何も言えない要因：{ FACTORS($factors) }。
attribution-nothing = モデルが二つ未満か、変えられた要因がないため、帰属すべき分散がありません。

## Findings: which models moved alike

similarity-seeds_together = { $model }：delta全体のコサインでは、同じレシピのシードはまとまっています。{ COUNT($total) }モデル中{ COUNT($together) }モデルが、別シードの同じレシピに最も似ています（平均コサインは同じレシピのシード間{ COSINE($recipe) }、同じシードのレシピ間{ COSINE($seed) }）。{ $sides }
similarity-seeds_apart = { $model }：delta全体のコサインでは、{ COUNT($total) }モデル中{ COUNT($together) }モデルが、別シードの同じレシピに最も似ています（平均コサインは同じレシピのシード間{ COSINE($recipe) }、同じシードのレシピ間{ COSINE($seed) }）。{ $sides }
similarity-sides = このうち入力側はアダプターの初期値です。重なりは同じレシピのシード間{ COSINE($input_seeds) }、同じシードのレシピ間{ COSINE($input_recipes) }、偶然では{ COSINE($input_chance) }です。出力側は学習の結果で、それぞれ{ COSINE($output_seeds) }、{ COSINE($output_recipes) }、{ COSINE($output_chance) }です。
similarity-apart = { $model }：モデルは{ FACTOR($factor) }（{ COUNT($levels) }水準）ごとに分かれます。シルエット{ COSINE($silhouette) }、平均コサインは水準内{ COSINE($within) }、水準間{ COSINE($between) }。
similarity-mixed = { $model }：モデルは{ FACTOR($factor) }（{ COUNT($levels) }水準）では分かれません。シルエット{ COSINE($silhouette) }、平均コサインは水準内{ COSINE($within) }、水準間{ COSINE($between) }。
similarity-left_out = { $model }：{ COUNT($total) }モデル中{ COUNT($count) }モデルは、一部の組が未測定のため行列に含まれていません。
similarity-nothing = すべての組が測定されたモデルが三つ未満のため、クラスタリングできません。

## Findings: where they moved

where-kind = { $model }：{ COUNT($total) }レシピ中{ COUNT($count) }レシピで、L2の二乗のうち最も大きな割合が{ $kind }にあります（{ PERCENT($low) }〜{ PERCENT($high) }）。
where-kind_difference = { $model }：{ COUNT($total) }件の差分中{ COUNT($count) }件で、L2の二乗のうち最も大きな割合が{ $kind }にあります（{ PERCENT($low) }〜{ PERCENT($high) }）。
where-depth = { $model }：{ COUNT($layers) }層中の最後の{ COUNT($late) }層が、L2の二乗の{ PERCENT($low) }〜{ PERCENT($high) }を占めます。
where-nothing = deltaでテンソルごとのノルムが測定されていないため、場所については何も言えません。

## Findings: what they predict

functions-layer = { $model }：{ FACTOR($factor) }が異なるモデルは{ COUNT($last) }層中の層{ COUNT($layer) }で最も似ていません。CKAは{ COSINE($cka) }、二つのシード間では{ COSINE($seeds_cka) }です。
functions-nothing = モデルの予測は比べていません（evaluation: functions）。

## Findings: how concentrated

concentration-half = { WORD($what) }（{ COUNT($count) }件）：L2の半分が、大きい方から{ PERCENT($low) }〜{ PERCENT($high) }の要素にあります。独立な正規分布なら{ PERCENT($normal) }です。
concentration-rank = テンソルの差分の平均実効ランクは{ SHORT($low) }〜{ SHORT($high) }（上限{ COUNT($rank) }）です。
concentration-nothing = deltaでの曲線が測定されていないため、集中度については何も言えません。

## Findings: the base model's directions

entries-moved = { $model }：ビュー{ $view }では、学習が全要素の{ PERCENT($low) }〜{ PERCENT($high) }を{ SETTING($tolerance) }より大きく動かします（{ COUNT($recipes) }レシピ）。{ $seeds }
entries-spread = 同じレシピのシード間の差は最大{ PERCENT($spread) }です。
entries-shared_recipe = { $model }：同じレシピのシード（最大{ COUNT($models) }）は、大きい方から{ PERCENT($density) }の要素のうち{ PERCENT($low) }〜{ PERCENT($high) }をすべてが共に残します（偶然なら{ SHARE($chance_low) }〜{ SHARE($chance_high) }）。二つ以上が残す要素で符号が食い違う割合は最大{ PERCENT($conflict) }です。
entries-shared_seed = { $model }：同じシードのレシピ（最大{ COUNT($models) }）は、大きい方から{ PERCENT($density) }の要素のうち{ PERCENT($low) }〜{ PERCENT($high) }をすべてが共に残します（偶然なら{ SHARE($chance_low) }〜{ SHARE($chance_high) }）。符号が食い違う割合は最大{ PERCENT($conflict) }です。
entries-nothing = 要素は数えられていません。
intruders-count = { $model }：各テンソルのW＋差分の上位{ COUNT($top) }個の特異ベクトルのうち、{ PERCENT($low) }（{ $first }）〜{ PERCENT($high) }（{ $last }）が、ベースモデルに対応するもののない侵入次元です（コサインが{ SETTING($epsilon) }未満）。{ $floor }
intruders-left = { $model }：差分の書き込み先の{ PERCENT($low) }（{ $first }）〜{ PERCENT($high) }（{ $last }）が、ベースモデルの上位{ COUNT($top) }個の左特異ベクトルの中にあり、偶然の{ SHORT($times_low) }〜{ SHORT($times_high) }倍です。{ $floor }
intruders-right = { $model }：差分の読み取り元の{ PERCENT($low) }（{ $first }）〜{ PERCENT($high) }（{ $last }）が、その上位{ COUNT($top) }個の右特異ベクトルの中にあり、偶然の{ SHORT($times_low) }〜{ SHORT($times_high) }倍です。{ $floor }
intruders-floor = 同じレシピのシード間の差は、全体の{ PERCENT($spread) }以内です。
intruders-nothing = ベースモデルの方向との関係は、この研究では測定の対象でない（`spectra: base`）か、因子を持つ差分がありません。

## Findings: chained trials

chains-added = 連鎖した{ COUNT($count) }件の学習で、子の変化量（L2）は親の{ PERCENT($low) }〜{ PERCENT($high) }です。
chains-angle = 子は親に対して{ DEGREES($low) }〜{ DEGREES($high) }の向きに進みます。{ COUNT($count) }件中{ COUNT($back) }件が逆行（100°超）し、打ち消しは最大{ PERCENT($lost) }です。
chains-nothing = 測定された連鎖学習はありません。

## Findings: along the way

paths-straight = { $model }：{ COUNT($count) }件の学習で、経路の長さは最終的な変位の{ SHORT($low) }〜{ SHORT($high) }倍です。
paths-first = { $model }：{ COUNT($total) }件中{ COUNT($count) }件で、{ $layer }が最初に最終ノルムの半分に達します。
paths-part = { $model }：同じレシピのシードは、全ステップの{ PERCENT($low) }〜{ PERCENT($high) }までに分かれます（コサイン0.5未満、{ COUNT($count) }レシピ）。
paths-together = { $model }：{ COUNT($count) }レシピでは、最後まで分かれていないシードがあります（コサイン0.5以上）。
paths-nothing = 経路は記録されていません。

## Findings: lines between models

connectivity-connected = { $model }：{ $a }と{ $b }は障壁なしにつながっています。損失は両端を結ぶ直線を最大{ SHORT($barrier) } nat上回ります{ $floor }。
connectivity-below = { $model }：{ $a }と{ $b }は障壁なしにつながっています。損失が両端を結ぶ直線を上回る点はありません{ $floor }。
connectivity-barrier = { $model }：{ $a }と{ $b }の間には障壁があります。t = { SHORT($at) }での{ $data }の損失は直線を{ SHORT($barrier) } nat上回ります{ $floor }。
connectivity-floor = （同じレシピの二つのシード間では最大{ SHORT($barrier) } nat：{ $of }）
connectivity-no_floor = （同じレシピの二つのシード間は未測定）
connectivity-connected_seeds = { $model }：{ $a }のシードは障壁なしにつながっています。損失は両端を結ぶ直線を最大{ SHORT($barrier) } nat上回ります。
connectivity-below_seeds = { $model }：{ $a }のシードは障壁なしにつながっています。損失が両端を結ぶ直線を上回る点はありません。
connectivity-barrier_seeds = { $model }：{ $a }の二つのシードの間には障壁があります。t = { SHORT($at) }での{ $data }の損失は直線を{ SHORT($barrier) } nat上回ります。
connectivity-missing = { COUNT($count) }本の線には障壁の値がありません（{ FIRST_SIX($names) }）：{ FIRST_SIX($reasons) }。
connectivity-nothing = モデル間の線（`connectivity`）はこのスタディでは求められていません。

## Findings: trust

trust-done = { COUNT($total) }件の学習はすべて完了しています。
trust-undone = { COUNT($total) }件の学習のうち{ COUNT($undone) }件が未完了です（失敗{ COUNT($failed) }、中止{ COUNT($blocked) }）。結果は残りの学習についてのものです。
trust-marked = { COUNT($total) }モデル中{ COUNT($count) }モデルの回答が、実験の設定した限度を外れています：{ FIRST_SIX($names) }。
trust-merged = ベースモデルの型へ統合すると、{ COUNT($count) }件のタスクベクトルはノルムの{ PERCENT($low) }〜{ PERCENT($high) }だけ変わり、最大{ PERCENT($zeros) }の要素がゼロになります。
trust-dequantized = 4ビットの重みから読み取ると、{ COUNT($count) }件のタスクベクトルはノルムの{ PERCENT($low) }〜{ PERCENT($high) }だけずれ、最大{ PERCENT($zeros) }の要素がゼロになります。
trust-counted = { $model }：{ COUNT($comparisons) }件の比較はすべて同じ{ COUNT($numel) }要素（{ $universe }）についてのものです。
trust-unequal = { $model }：{ COUNT($comparisons) }件の比較は{ COUNT($low) }〜{ COUNT($high) }要素にわたり、要素数の異なるL1・L2は同列に扱えません。

## Titles of columns

column-model = ベースモデル
column-space = 空間
column-effect = 効果
column-baseline = シード間
column-chance = 偶然
column-times = 倍
column-effect_like = 同じシード間
column-pairs = 組
column-seed_pairs = シードの組
column-p = p
column-p_adjusted = 補正後のp
column-basis = 根拠
column-effect_verdict = 判定
column-factor = 要因
column-label = レシピ
column-difference = 差分
column-pair = データの組
column-learning_rate = 学習率
column-seed = シード
column-seeds = シード数
column-norm_factor = ノルムの比
column-norm_spread = シード間の比
column-norm_verdict = 移動量
column-distance = 距離
column-deviation = 標準偏差
column-also = 他の違い
column-ratio_unlike = 異なるシードでの比
column-ratio_most = 比の上限
column-boot_low = ブートストラップ下限
column-boot_high = ブートストラップ上限
column-low = 95 %下限
column-high = 95 %上限
column-mean = L2の平均
column-seed_distance = シード間
column-ratio = 同じシードでの比
column-times_seed = シードとの比
column-verdict = 移動先
column-seeds_verdict = 判定
column-source = 出典
column-l2_mean = L2の平均
column-l2_deviation = 標準偏差
column-l2_low = ブートストラップ下限
column-l2_high = ブートストラップ上限
column-l2_factor = L2の倍率
column-relative_distance = ノルム比
column-norm_of_seed = { $norm }（シード{ $seed }）
column-response = 応答
column-level = 単位
column-key = 場所
column-df = 自由度
column-sum_squares = 平方和
column-share = 割合
column-partial_share = 偏割合
column-observations = 観測数
column-residual_df = 残差自由度
column-levels = 水準数
column-silhouette = シルエット
column-within = 水準内コサイン
column-between = 水準間コサイン
column-name = 学習
column-trial = 学習
column-nearest = 最も似たモデル
column-cosine = コサイン
column-layer = 層
column-kind = 種類
column-value = ノルム
column-l1 = L1
column-l2 = L2
column-relative_l2 = 相対L2
column-what = 対象
column-half_l1 = L1の半分
column-half_l2 = L2の半分
column-l2_in_1 = 上位1 %のL2
column-l2_in_10 = 上位10 %のL2
column-effective_rank = 実効ランク
column-density = 密度
column-num_keep = 保持数
column-threshold = しきい値
column-at_or_above = しきい値以上
column-l1_share = L1の割合
column-l2_share = L2の割合
column-l2_parent = 親のL2
column-l2_child = 子のL2
column-angle = 角度
column-top = 上位
column-epsilon = しきい値ε
column-intruder_share = 侵入次元
column-intruder_spread = 侵入次元のシード差
column-share_left = 左の割合
column-left_spread = 左のシード差
column-left_times = 左／偶然
column-share_right = 右の割合
column-right_spread = 右のシード差
column-right_times = 右／偶然
column-cancellation = 打ち消し
column-child_share = 子／親
column-numel = 要素数
column-merged_error = 統合の誤差
column-merged_false_zeros = 統合のゼロ
column-dequantized_error = 4ビットの誤差
column-dequantized_false_zeros = 4ビットのゼロ
column-universe = 対象範囲
column-comparisons = 比較数
column-length = 経路長
column-displacement = 変位
column-length_ratio = 経路長／変位
column-first = 最初に動く層
column-first_at = 時点
column-steps = ステップ数
column-records = 記録数
column-parted = 分岐点
column-last_cosine = 最終コサイン
column-data = データ
column-barrier = 障壁
column-at = 位置t
column-seed_barrier = シード間
column-seeds_of = シードのレシピ
column-loss_a = 一方の損失
column-loss_b = 他方の損失
column-points = 点の数
column-message = 理由
column-status = 状態
column-train_loss = 学習損失
column-eval_loss = 評価損失
column-style_rate = 文体
column-japanese_rate = 日本語
column-stopped_rate = 停止
column-repetition_rate = 反復
column-distinct_rate = 異なり
column-seconds = 秒
column-marks = 印
column-view = ビュー
column-tolerance = 許容差
column-moved_share = 動いた割合
column-seed_spread = シード間の差
column-nonzero_share = 非零の割合
column-group = 組
column-models = モデル数
column-all_share = すべてが残す
column-chance_share = 偶然なら
column-over_chance = 偶然との比
column-in_common = 共通の割合
column-common_by_chance = 偶然の共通
column-some_share = 一部が残す
column-one_share = 一つが残す
column-none_share = どれも残さない
column-sign_conflict = 符号の食い違い
column-cka = CKA
column-seeds_cka = シード間のCKA
column-answers = 回答
column-position = 位置
column-token = トークン
column-kl = KL
column-p_a = 一方の確率
column-p_b = 他方の確率
column-top_a = 一方の予測
column-top_b = 他方の予測
column-prompt = プロンプト
column-l1_printed = L1既報
column-l1_measured = L1測定
column-l1_ratio = L1の比
column-l2_printed = L2既報
column-l2_measured = L2測定
column-l2_ratio = L2の比

## Verdicts, in sentences and in cells

verdict-open = 判定できません
verdict-unknown = 不明です
verdict-stable = 安定
verdict-varies = ばらつく
verdict-seed = シードによる
verdict-zero = ゼロあり
verdict-one_seed = シード一つ
verdict-some_seeds = 一部のシード

short-baseline = シードそのもの
short-most = シードの差のほぼすべて
short-part = シードの差の一部
short-little = シードの差のわずか
short-beyond = 超える
short-near = わずかに超える
short-within = 区別できない
short-open = 判定できない
short-unknown = 不明
short-stable = { verdict-stable }
short-varies = { verdict-varies }
short-seed = { verdict-seed }
short-zero = { verdict-zero }
short-one_seed = { verdict-one_seed }
short-some_seeds = { verdict-some_seeds }

## Figures: captions, axes, legends

caption-effects = { $model }：一つの要因だけが異なるレシピの組を、同じレシピの二つのシードの何倍かで示します（{ COUNT($count) }点）。帯の中はシードと区別できません。
caption-cka = { $model }：回答トークンでの隠れ状態のCKA（層0は埋め込み）。要因が異なる二つのモデルと、同じレシピの二つのシード（破線）。
caption-floor = { $model }：一つの要因が異なるレシピ間の距離（同じシード）を、同じレシピのシード間の距離の倍数で示します。線より左では、要因よりもシードの違いの方が大きいです。
caption-seeds = { $model }：各データの組の差分のL2ノルム（シード別）。
caption-attribution = { $model }：{ WORD($response) }の分散のうち各要因に対応する割合（全体と場所別）。分離できない要因は一色で示します。
caption-similarity = { $model }：すべてのモデル対のタスクベクトルのコサイン（クラスタリング順）。左端は各モデルの手法・データ・シード。{ $left }
caption-signs = { $model }：ともに非ゼロの要素のうち符号が一致する割合。偶然なら0.5。{ $left }
caption-overlap = { $model }：最小の密度で、二つのモデルの最大要素が偶然の何倍重なるかを示します。{ $left }
caption-similarity-recipes = モデルが{ COUNT($models) }個あるため、シード間の平均を示します。
caption-heatmap = { $model }：層とモジュール別の{ $measure }（シード平均）。レシピまたは差分を選べます。表示中：{ $label }。
caption-curve = { $model }：大きい方からの要素に含まれるノルムの割合（{ COUNT($total) }本中{ COUNT($shown) }本、シード一つ）。点は研究の密度、点線は独立な正規分布の場合。表示中：{ $norm }。
caption-intruders = { $model }：レシピの差分のうち、ベースモデルの上位{ COUNT($top) }個の特異ベクトルの中にある割合。ランダムな方向の割合（線）に対する倍率で、シードの平均です。
caption-chains = { $model }：親の変化、子の追加分、全体のL2。
caption-paths = { $model }：学習中の各層のノルム（最終値に対する割合）。レシピを選べます。表示中：{ $label }。
caption-connectivity = { $model }：一方のモデル（t = 0）から他方（t = 1）への線上の未学習データの損失が、両端を結ぶ直線を上回る量。同じレシピのシード間は破線。表示中：{ $label }。
chart-cut = { COUNT($total) }件中{ COUNT($shown) }件を表示。
axis-times = 別シードによる差の何倍か
axis-cka = CKA
axis-ratio = シード間距離の倍数
axis-l2 = 差分のL2ノルム
axis-l2_part = L2ノルム
axis-share = 分散の割合
axis-layer = 層
axis-kind = モジュールの種類
axis-cosine = コサイン
axis-sign_agreement = 符号の一致率
axis-over_chance = 重なり／偶然
axis-mark = 種別
axis-kept = 大きい方から保持した割合
axis-norm_share = ノルムの割合
axis-times_chance = 偶然に対する倍率
axis-step = ステップ
axis-path = ノルム／最終ノルム
axis-t = t
axis-excess = 直線を上回る量（nat）
axis-loss = 損失
legend-line = 線
line-difference = 二つのレシピ
line-seeds = 二つのシード
line-of_seeds = { $label }のシード間
legend-cka = 要因が異なる
legend-seeds_cka = 二つのシード
legend-seed = シード
legend-factor = 要因
legend-part = 部分
legend-comparison = 差分
legend-side = 特異ベクトル
legend-layer = 層
choose = 表示
side-left = 左（書き込み先）
side-right = 右（読み取り元）
part-l2_parent = 親
part-l2_child = 子
part-l2 = 全体
place-all = 全体
normal = 正規分布
measure-relative_l2 = ベースの重みに対する相対L2
measure-l2 = L2ノルム

## What the numbers mean; all formulas are in docs/method.md

define-norms-head = L1、L2
define-norms-text = float32(a) - float32(b)の絶対値の和と二乗和の平方根。どちらかが学習した全テンソルについてfloat64で累積。
define-trial-head = 学習のL2
define-trial-text = タスクベクトル（学習が変えたもの）のL2。
define-pair-head = データの組
define-pair-text = ベースモデル、手法、シード、学習率、親モデルが同じで、データだけが異なる二つの学習。
define-factor-head = L2の倍率
define-factor-text = シード間の最大L2／最小L2。1.25以下は安定、2以下はばらつき、2を超えるとシードによるものです。
define-effect-head = 効果、シード間、倍
define-effect-text = その要因だけが異なる二つのモデルの平均と、同じレシピの二つのモデルの平均（どちらもシードは異なる）。移動量はノルムの比の対数の絶対値、移動先は出力側の重なり、delta全体は初期値が同じモデルの距離、予測は評価用の回答でのKLダイバージェンス（両方向、1トークンあたりナット）。倍は前者／後者、重なりでは（シード間−偶然）／（効果−偶然）。
define-cka-head = CKA
define-cka-text = 評価用の回答のトークンでの、二つのモデルの隠れ状態の線形CKA（不偏推定）。回転と拡大縮小を除いて等しければ1、無関係なら0に近くなります。
define-tokens-head = トークンの確率、KL
define-tokens-text = プロンプトとそこまでの回答に続くトークンに各モデルが与える確率と、そこでのKLダイバージェンス（ナット）。
define-floor-head = 異なるシード、同じシードでの比
define-floor-text = 一つの要因が異なるレシピ間の平均距離／それぞれのシード間の平均距離。異なるシード間では、両者が同じレシピなら1になります。1.25以下はシードと区別できず、2以上はシードを超えます。上限が2に届かない場合は判定できません。
define-norms_differ-head = ノルムの比、シード間の比
define-norms_differ-text = 二つのレシピの平均L2の大きい方／小さい方と、それぞれのシード間の最大の比。対数の比が1.25以下はシードと区別できず、2以上はシードを超えます。
define-distance-head = 距離
define-distance-text = 二つのタスクベクトルの差のL2。直接測定した値（norms）、またはノルムとコサインから余弦定理で求めた値（pairs）。
define-interval-head = ブートストラップ、95 %
define-interval-text = 三つ以上のシードの平均のブートストラップ百分位区間（9,999回、2.5〜97.5 %）。三つでは範囲そのものであり、シードが少ないと95 %より狭くなります。偏割合は非心F分布の逆転による95 %区間。
define-share-head = 分散の割合
define-share-text = 交互作用のない加法モデルでの、要因のタイプII平方和／全平方和。偏割合は自身と残差の和に対するものです。要因が共同でのみ説明する部分は分離しません。
define-cosine-head = コサイン
define-cosine-text = 二つのタスクベクトルの符号付きコサイン。1は同方向、0は無関係、-1は逆方向。
define-silhouette-head = シルエット
define-silhouette-text = あるモデルが自身の水準に、次に近い水準よりどれだけ近いかを示します（1－コサイン、-1〜1）。0.5以上で水準ごとに分かれます。
define-relative-head = 相対L2
define-relative-text = 同じテンソルにおけるベースモデルの重みのL2に対する比。
define-density-head = 密度、保持数
define-density-text = 絶対値の大きい方から保持した割合と、その数max(1, floor(密度×要素数))。
define-threshold-head = しきい値
define-threshold-text = 保持した最小の絶対値と、それ以上の要素数（同値があれば保持数を超過）。
define-half-head = L2の半分
define-half-text = ノルムの半分を含む密度。曲線の二点間を密度の対数で補間。
define-rank-head = 実効ランク
define-rank-text = 差分の特異値（総和で正規化）のエントロピーの指数（Roy and Vetterli 2007）、テンソル平均。
define-barrier-head = 障壁
define-barrier-text = 二つのモデルの線上の点（base + (1 - t) a + t b、aとbはタスクベクトル）での未学習データの損失が、両端（tが0と1）を結ぶ直線を上回る最大値（トークンあたりnat、Entezari et al. 2022）。0.01以下ならつながっているとみなします。
define-intruder-head = 侵入次元
define-intruder-text = 全テンソルを通して、W＋差分の上位の左特異ベクトルのうち、ベースモデルのテンソルWのどの特異ベクトルともコサインがε未満のものの割合（Shuttleworth et al. 2024）。シード差は、シード間の最大値と最小値の差。
define-principal-head = 左の割合、右の割合
define-principal-text = 差分のエネルギー（L2の2乗）のうち、ベースモデルのテンソルの上位の左特異ベクトル（書き込み先）または右特異ベクトル（読み取り元）の中にある割合と、それがランダムな方向の何倍かを示す値。
define-chain-head = 角度、打ち消し
define-chain-text = 親に対する子の変化の角度（度）と、1 - |p + c| / (|p| + |c|)。
define-answers-head = 文体、日本語、停止、反復
define-answers-text = 回答例のうち、研究の文体で終わるもの、文字種から日本語でありノイズでないもの、出力上限前に終わったもの、4-gramの30 %超が反復するかループするものの割合。
define-marked-head = 印
define-marked-text = 割合が研究の限度を超え、データ自身の回答は限度内であるモデル。
define-merge-head = マージ
define-merge-text = 学習または既存モデルを一つのチェックポイントに結合したものです（ベースモデルの型）。L2はベースモデルとの差。
define-missing-head = –
define-missing-text = 未測定。ここでは有効数字4桁、表には全桁。
