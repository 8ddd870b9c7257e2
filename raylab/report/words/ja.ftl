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
section-effects = シードの違いより大きく効く要因はどれか
section-floor = シードを変えるだけでどれだけ変わるか
section-seeds = シードを変えてもノルムは安定しているか
section-attribution = モデル間の違いを説明する要因はどれか
section-similarity = 同じ向きに変化したモデルはどれか
section-map = 互いに近いモデルはどれか
section-where = どの層・どのモジュールが最も変化したか
section-functions = モデルはどの層・どのトークンで最も異なるか
section-concentration = 変化は少数の値に集中しているか
section-entries = どれだけの値が動き、モデル間で共通しているか
section-intruders = 変化はベースモデルの主な方向に沿っているか
section-chains = 続けて行った学習は親モデルに何を加えたか
section-paths = 変化は学習中にどう進んだか
section-connectivity = モデルは損失の障壁なしにつながっているか
section-trust = 数値はどこまで信頼できるか
section-answers = モデルは何と答えるか
section-trials = どの学習を行い、どう終わったか
section-numbers = 数値は何を意味するか
section-tables = 表はどこにあるか
unit-trial = 学習{ COUNT($count) }件
unit-trials_and_merges = 学習{ COUNT($trials) }件とマージ{ COUNT($merges) }件
status-done = 完了
status-failed = 失敗
status-blocked = 中止
status-running = 実行中
status-pending = 待機中
lead = { $adapter }{ $rates }密度：{ $densities }。
lead-state = { $status }{ $count }
lead-seeds = シード{ LIST($seeds) }
studied-recipes = { COUNT($count) }レシピ（{ LIST($methods) }）
studied-after = { $parent }後の{ $method }
studied-data = データセット{ LIST($data) }
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
grid-effect_pairs = 二つのレシピの差とシードの差の比較
grid-differences = レシピ間の距離とシード間の距離の比較
grid-floor = シードによる各レシピの変化
grid-seeds_like = 学習方法の間でそろえた学習率でのノルム
grid-seeds_unlike = そのほかの学習率でのノルム
grid-attribution = 分散の割合
grid-silhouette = モデルは群に分かれるか
grid-neighbours = 各モデルに最も似たモデル
grid-map_distances = モデル間の距離
grid-map_factors = どの要因でまとまるか
grid-where = 層・モジュール別のノルム
grid-cka_by_layer = 層ごとのCKA
grid-tokens = 予測が最も異なるトークン
grid-concentration = 大きい値に含まれるノルムの割合
grid-densities = 密度ごとの上位の値のノルム
grid-moved = 動いた値
grid-shared = 複数のモデルに共通する上位の値
grid-intruders = 侵入次元と、ベースモデルの上位方向に含まれる割合
grid-chains = 親モデルの変化と続けた学習の変化
grid-paths = 経路の長さ
grid-parting = シードが分かれる時点
grid-barriers = 損失の障壁
grid-audit = ベースモデルの型・4ビットでの誤差
grid-counted = 比較した値の数
grid-trials = すべての学習
grid-printed = 測定値と既報の値
grid-likelihoods = 評価用の回答の対数確率
grid-cut = { COUNT($total) }行中{ COUNT($shown) }行。全体：{ $file }。
grid-whole = 全{ COUNT($total) }行。ファイル：{ $file }。
note-printed = 既報の値は各出典によります。比は測定値／既報値です。
note-likelihoods = 全{ COUNT($count) }モデル。評価用プロンプトに対する各データセットの回答の、1トークンあたりの平均対数確率（ナット）。
note-trials = 全{ $amount }。
marks-marked = 印：{ $marks }。{ $compared }
marks-compared = 比較：{ FIRST_SIX($names) }。
trouble = { $status }：{ $what }
trouble-unknown = 原因不明
missing-comparisons = 予定した比較{ COUNT($planned) }件のうち{ COUNT($missing) }件が未測定です。
missing-names = 未測定の比較：{ LIST($names) }。
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
merge-as_adapter = ；アダプターとして出力
merge-as_adapter-rank = （ランク{ $rank }）
merge-as_adapter-energy = （各テンソルのエネルギー（特異値の二乗和）の{ SETTING($energy) }を保持）
merge-setting = ；{ $name } { $value }
places-parquet = Parquet
places-csv = CSV
places-figures = 図
places-latex = LaTeX
places-as = { $address }（SVGとPNG）
places-empty = 行のない表
places-left-out = 同じ場所にあるが、この表にはない結果

## Findings: what sentences are made of

factor-method = 学習方法
factor-data = データセット
factor-seed = シード
factor-seed_init = Aの初期値（シード）
factor-seed_order = データ順（シード）
factor-seed_dropout = ドロップアウト（シード）
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
share-with = { FACTOR($factor) }が{ SHARE($share) }
seed-value = { SHORT($value) }（シード{ $seed }）
seed-missing = 未測定（シード{ $seed }）
with-subject = { $subject }：{ $text }
list-comma = 、
some-more = { $shown }ほか{ $more }件
answer-all = { $subject }シードを変えたときの差と比べると、{ LARGEST($largest) }です。{ COUNT($total) }要因すべてがシードによる差を上回ります。
answer-some = { $subject }シードを変えたときの差と比べると、{ LARGEST($largest) }です。シードによる差を上回るのは{ COUNT($kept_count) }要因（{ FACTORS($kept) }）で、{ FACTORS($rest) }は上回らないか未測定です。
answer-noise = { $subject }シードによる差を上回る要因はありません。{ LARGEST($largest) }です。
answer-unknown = { $subject }シードを変えたときの差と比べられる測定がなく、何がモデルを動かすかはまだ分かりません。
answer-nothing = { $subject }比べられたモデルの組がまだなく、何がモデルを動かすかは分かりません。
answer-no_factor = { $subject }一つの要因だけが異なるレシピの組がなく、どの要因がモデルを動かすかは分かりません。
answer-part =
    { LIST($spaces) }を最も左右するのは{ FACTORS($factors) }{ COUNT($count) ->
        [1] { "" }
       *[other] （同程度）
    }
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
page-reading = 読み方
page-details = 文章で見る
page-all_rows = { $count }行すべてを表示
page-csv = CSV
page-scroll = 右にも列があります
page-no_script = この図はスクリプトで描かれますが、ここでは無効です。値は下の表にあります。
read-effects = 点は、その行の要因だけが異なる二つのレシピです。横軸（対数）は、二つのレシピの差が同じレシピの二つのシードの差の何倍かを表します。灰色の帯（0.8〜1.25倍）の中では、要因の影響はシードによる差を超えません。色と形は、変化の大きさ、変化の向き、予測のどれを比べたかを表します。2倍以上を明確とし、並べ替え検定ができる場合は検定に従います。
read-floor = 点は、一つの要因だけが異なる、同じシードで学習した二つのレシピです。横軸は二つのレシピの距離をシード間の距離で割った値で、線のある1では、その要因はシードを変えたときと同じだけモデルを動かします。色は要因、点を通る横棒は95 %区間です。判定に用いる、異なるシードどうしの距離は表にあります。
read-seeds = 棒の組は、データセットだけが異なる2モデルで、一本が一つのシードです。長さは2モデルの差分のL2ノルムです。長さがそろっていれば、ノルムはシードに左右されません。2倍を超えて異なれば、ノルムはデータセットよりもシードの違いを映しています。
read-attribution = 一本の棒は、ある量の分散全体で、上からモデル全体、層ごと、モジュールの種類ごとに並びます。色の部分はその要因で説明される割合で、長いほどモデル間の違いがその要因によります。どの要因でも説明されない部分は残差です。いつも一緒に変わる要因は、この実験計画では分離できないため、一つの部分にまとめています。
read-similarity = セルは、行のモデルと列のモデルの比較です。似たモデルどうしが隣に来るように並べています。タスクベクトルのコサインは、1が同じ向き、0が無関係、-1が逆向きで、ほかの指標の読み方は図の目盛りに示します。端の帯は各モデルの学習方法、データセット、シードです。対角線に沿って同じ色の塊があれば、その中のモデルは似た変化をしています。
read-map = 点はモデルで、近い点ほど違いの小さいモデルです。位置はすべてのモデル間の距離から古典的多次元尺度構成法で求めており、軸そのものに意味はありません。色は要因、形はシードを表します。ストレスは二次元にしたときに失われる距離の割合で、0に近ければ正確、0.2以上なら大まかな図です。
read-where = セルは層（行、上が最後の層）とモジュールの種類（列）です。明るいほど、学習によってその重みが大きく変化しています（測定してあれば、ベースモデルの重みに対する相対L2）。色が一様なら、どの部分も同じように変化しています。ほかのレシピや、二つのレシピの差分も選べます。
read-functions = 線は要因で、その要因が異なる二つのモデルの隠れ状態がどれだけ似ているか（CKA）を層ごとに表します。1は同一、0は無関係です。破線は同じレシピの二つのシードで、実線が破線に重なるところでは、その要因の影響はシードによる差を超えません。予測が最も異なるトークンは表にあります。
read-concentration = 横軸は大きい順に残した値の割合、縦軸はそれらの値に含まれるノルムの割合です。線が点線より上にあれば、独立な正規分布に従う値よりも、少数の値にノルムが集中しています。色は比較したモデル、線上の点は研究で定めた密度です。
read-entries = 一つ目の表は、各レシピで許容差より大きく動いた値の割合と、そのシードによる差です。二つ目の表は、複数のモデルの上位の値がどれだけ共通しているかを、偶然の場合と並べたものです。偶然に近ければ、モデルごとに別の値が動いています。符号の食い違いは、同じ値が逆向きに動いたことを表します。
read-intruders = 点はレシピです。横軸は、deltaがベースモデルの最も強い方向に含まれる割合がランダムな方向の何倍かを表し、線のある1なら偏りはありません。色は左右の別で、左はdeltaの書き込み先、右は読み取り元です。表の侵入次元は、学習後のモデルの強い方向のうち、ベースモデルにはないものです。
read-chains = 棒の組は続けて行った一件の学習で、親モデルの変化、その学習による変化、両方を合わせた変化のL2を並べています。無関係な二つの変化は90°をなし、直角三角形の二辺のように合わさります。90°より大きければ親モデルの変化を一部打ち消し、小さければ同じ向きに進んでいます。
read-paths = 線は一つのレシピの各層で、濃い色ほど前の層です。縦軸は各ステップでのノルムの、最終ノルムに対する割合で、どの線も100 %で終わります。早く上がる線ほど、早く動いた層です。ほかのレシピはメニューで選べます。
read-connectivity = 線は、一方のモデル（t = 0）から他方のモデル（t = 1）まで、タスクベクトルを混ぜながら進みます。縦軸は、評価用データの損失が両端を結ぶ直線を上回る量です。0以下にとどまれば二つのモデルはつながっており、山があればそれが障壁です。破線は同じレシピの二つのシードです。
read-trust = 一つ目の表は、ベースモデルの型に統合した重みや4ビットの重みから測定したときに、タスクベクトルがどれだけずれ、どれだけの値が0になるかを示します。0 %なら誤差はありません。二つ目の表は、それぞれの比較に含まれる値の数です。ノルムを比べられるのは、この数が同じ場合だけです。
verdict-clear = 明確
verdict-weak = 弱い
verdict-noise = シードのばらつきの範囲内
verdict-missing = 未測定
verdict-baseline = 基準
verdict-most = シードの差と同程度以上
trust-none_done = { COUNT($total) }件の学習はどれも完了していないため（失敗{ COUNT($failed) }、中止{ COUNT($blocked) }）、結果はまだありません。
verdict-part = シードの差の一部
verdict-little = シードの差のごく一部

## Findings: does a factor matter?

effects-answer = { BASE($model) }数値は、シードを変えたときの差の何倍かを示します。変化の大きさ：{ EFFECTS($far) }。変化の向き：{ EFFECTS($where) }。予測：{ EFFECTS($function) }。
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
effects-seed_part = { BASE($model) }{ FACTOR($part) }だけが異なる同じレシピの二つのモデルの距離は、すべてが異なる二つのシードに対し、delta全体で{ SHORT($delta) }倍、出力側で{ SHORT($where) }倍、予測で{ SHORT($function) }倍です。
effects-tied = 一つの数がアダプターの初期値、データの順序、ドロップアウトのシードを兼ねるため、それぞれの影響は分離できません。`seeds`に`init`と`order`を与えると分離できます。
effects-tested = { BASE($model) }{ COUNT($total) }件の判定のうち{ COUNT($tested) }件はラベルの並べ替え検定（要因についてHolmの補正）によります。残りは記述的です。
effects-too_few = 判定は記述的なものです。シードが少ないため、並べ替え検定のp値は{ SHORT($least) }を下回りません。
effects-descriptive = 判定は記述的なものです。検定には{ COUNT($seeds) }個のシードが必要です。

## Findings: the seed baseline

share-little = 0.1 %未満
floor-also = これらのレシピは{ LIST($names) }も異なります。
list-semicolon = 、
list-sentences = {""}
range = { $low }〜{ $high }
floor-no_difference = { BASE($model) }一つの要因だけが異なるレシピの組がないため、どの要因もシードと比べられません。
floor-nothing = 学習と測定が済んだモデルがまだありません。
floor-spread = { BASE($model) }同じレシピでも、シードを変えるとL2ノルムは{ RATIO($low) }〜{ RATIO($high) }変わります（{ COUNT($recipes) }レシピ）。
floor-apart = { BASE($model) }シード間の距離は、そのレシピのタスクベクトルのノルムの{ PERCENTS($low, $high) }です（{ COUNT($recipes) }レシピ）。
floor-unknown = 二つのシードで測定されたレシピがないため、シードだけの影響は分かりません。
floor-one_seed = シードが一つ（{ $seed }）だけのため、どの差もシードのばらつきと比べられません。シードをもう一つ加えると基準が得られます。
seeds-summary = { BASE($model) }データセットだけが異なる{ COUNT($total) }組のうち{ COUNT($stable) }組では、シードを変えても差分のL2ノルムは安定しています（最大／最小が1.25以下）。変動が最も大きいのは{ $pair }（学習率{ SETTING($learning_rate) }）の{ SHORT($ratio) }倍です。
seeds-unknown = { BASE($model) }データセットだけが異なる{ COUNT($total) }組のうち、二つのシードでノルムが測定された組はありません。

## Findings: norms over seeds

seeds-stable = { $pair }（学習率{ SETTING($learning_rate) }）：シードを変えても安定しています（{ SHORT($ratio) }倍）。L2 { BY_SEED($l2) }。
seeds-varies = { $pair }（学習率{ SETTING($learning_rate) }）：シードによってばらつきます（{ SHORT($ratio) }倍）。L2 { BY_SEED($l2) }。
seeds-seed = { $pair }（学習率{ SETTING($learning_rate) }）：シードを変えるだけでノルムが{ SHORT($ratio) }倍変わります。この学習率では学習方法を比べられません。L2 { BY_SEED($l2) }。
seeds-zero = { $pair }（学習率{ SETTING($learning_rate) }）：ノルムが0になるシードがあり、倍率を求められません。L2 { BY_SEED($l2) }。
seeds-one_seed = { $pair }（学習率{ SETTING($learning_rate) }）：シードが一つだけなので、安定しているかどうかは分かりません。L2 { BY_SEED($l2) }。
seeds-some_seeds = { $pair }（学習率{ SETTING($learning_rate) }）：{ COUNT($seeds) }シードのうち{ COUNT($measured) }シードでしか測定されておらず、安定しているかどうかは分かりません。L2 { BY_SEED($l2) }。
seeds-nothing = 学習方法などが同一でデータセットだけが異なる2モデルの測定がないため、シード間でノルムを比べられません。
seeds-others = norms表の比較のうち{ COUNT($count) }件は、データセットだけが異なる2モデルの比較ではないため、これらの表にはありません。

## Findings: what goes with what

attribution-shares = { BASE($model) }{ COUNT($observations) }件の観測における{ WORD($response) }の分散の内訳は、{ SHARES($parts) }、残差が{ SHARE($residual) }です{ UNASSIGNED($unassigned) }。
attribution-overlap = （実験計画が釣り合っていないため、割合は{ PERCENT($share) }重複しています）
attribution-unassigned = （実験計画が釣り合っていないため、{ PERCENT($share) }は複数の要因に共通です）
attribution-saturated = { BASE($model) }{ COUNT($observations) }件の観測における{ WORD($response) }の分散の内訳は、{ SHARES($parts) }です。残差の自由度がない（残差{ PERCENT($residual) }）ため、区間のない記述にとどまります。
attribution-inseparable = { BASE($model) }分散の割合では、{ FACTORS($factors) }はこの実験計画では分離できません。一方が、他方の一つの水準の中でしか変わらないためです。
attribution-constant = { BASE($model) }この研究では変えていないため何も言えない要因：{ FACTORS($factors) }。
attribution-nothing = モデルが二つ未満か、変えた要因がないため、説明すべき分散がありません。

## Findings: which models moved alike

similarity-seeds_together = { BASE($model) }同じレシピのシードはまとまっています。{ COUNT($total) }モデルのうち{ COUNT($together) }モデルは、シードだけが異なる同じレシピのモデルに最も似ています（平均コサインは同じレシピのシード間で{ COSINE($recipe) }、同じシードのレシピ間で{ COSINE($seed) }）。
similarity-seeds_apart = { BASE($model) }同じレシピのシードはまとまっていません。シードだけが異なる同じレシピのモデルに最も似ているのは、{ COUNT($total) }モデルのうち{ COUNT($together) }モデルです（平均コサインは同じレシピのシード間で{ COSINE($recipe) }、同じシードのレシピ間で{ COSINE($seed) }）。
similarity-sides = { BASE($model) }deltaの入力側はアダプターの初期値で、重なりは同じレシピのシード間で{ COSINE($input_seeds) }、同じシードのレシピ間で{ COSINE($input_recipes) }、偶然では{ COSINE($input_chance) }です。出力側は学習の結果で、重なりはそれぞれ{ COSINE($output_seeds) }、{ COSINE($output_recipes) }、{ COSINE($output_chance) }です。
similarity-apart = { BASE($model) }モデルは{ FACTOR($factor) }（{ COUNT($levels) }水準）ごとに分かれます。シルエットは{ COSINE($silhouette) }、平均コサインは水準内で{ COSINE($within) }、水準間で{ COSINE($between) }です。
similarity-mixed = { BASE($model) }{ FACTOR($factor) }（{ COUNT($levels) }水準）では、はっきりとは分かれません。シルエットは{ COSINE($silhouette) }、平均コサインは水準内で{ COSINE($within) }、水準間で{ COSINE($between) }です。
similarity-no_groups = { BASE($model) }モデルがはっきり分かれる（シルエット0.5以上の）要因はありません。最も高い{ FACTOR($factor) }（{ COUNT($levels) }水準）でも{ COSINE($silhouette) }で、平均コサインは水準内で{ COSINE($within) }、水準間で{ COSINE($between) }です。
similarity-left_out = { BASE($model) }{ COUNT($total) }モデルのうち{ COUNT($count) }モデルは、一部の組が未測定のため行列に含まれていません。
similarity-nothing = すべての組が測定されたモデルが三つ未満のため、比べられません。

## Findings: which models are close to each other

map-groups = { BASE($model) }モデルが分かれる要因は、{ PARTS($parts) }です。
map-by = { WORD($space) }では{ FACTOR($factor) }（シルエット{ COSINE($silhouette) }）
map-by_none = { WORD($space) }ではなし（シルエットは最大でも{ COSINE($silhouette) }）
map-seeds = { BASE($model) }同じレシピのシード間の距離は、モデル間の平均距離に対して、{ PARTS($parts) }です。
map-seed = { WORD($space) }では{ SHORT($seed_share) }倍
map-stress = { BASE($model) }二次元の地図のストレスは、{ PARTS($parts) }です（0なら正確、0.2以上は大まかなので行列で確かめてください）。
map-stress_of = { WORD($space) }では{ SHORT($stress) }
map-left_out = { BASE($model) }{ COUNT($total) }モデルのうち{ COUNT($count) }モデルは、一部の組が未測定のため{ WORD($space) }の地図に含まれていません。
map-nothing = すべての組の距離が測定されたモデルが三つ未満のため、地図を描けません。
map-title-apart = モデルは{ FACTOR($factor) }で分かれます（シルエット{ COSINE($silhouette) }）
map-title-mixed = すべてのモデルを分ける要因はなく、最も近いのは{ FACTOR($factor) }です（シルエット{ COSINE($silhouette) }）
map-title-stress = { WORD($space) }の地図、ストレス{ $stress }

## Findings: where they moved

where-kind = { BASE($model) }{ COUNT($total) }レシピのうち{ COUNT($count) }レシピで、L2の2乗に占める割合が最も大きいのは{ $kind }（{ PERCENTS($low, $high) }）です。
where-kind_difference = { BASE($model) }{ COUNT($total) }件の差分のうち{ COUNT($count) }件で、L2の2乗に占める割合が最も大きいのは{ $kind }（{ PERCENTS($low, $high) }）です。
where-depth = { BASE($model) }全{ COUNT($layers) }層のうち後半の{ COUNT($late) }層が、L2の2乗の{ PERCENTS($low, $high) }を占めます。
where-nothing = deltaのテンソルごとのノルムが測定されていないため、層やモジュールについては何も言えません。

## Findings: what they predict

functions-layer = { BASE($model) }{ FACTOR($factor) }が異なるモデルは、層{ COUNT($layer) }（全体は層0〜{ COUNT($last) }）で最も似ていません。CKAは{ COSINE($cka) }、シード間では{ COSINE($seeds_cka) }です（1なら同一）。
functions-token = { BASE($model) }一つのトークンでの最大の差は、KLダイバージェンスで{ SHORT($kl) }ナット（{ $label }）です。
functions-nothing = この研究では、モデルの予測を比べていません（evaluation: functions）。

## Findings: how concentrated

concentration-half = { WORD($what) }（{ COUNT($count) }件）では、L2ノルムの半分が上位{ PERCENTS($low, $high) }の値に含まれます。独立な正規分布に従う値なら{ PERCENT($normal) }です。
concentration-rank = テンソルごとのdeltaの平均実効ランクは{ SHORTS($low, $high) }（上限{ COUNT($rank) }）です。
concentration-nothing = deltaの曲線が測定されていないため、集中の度合いについては何も言えません。

## Findings: the base model's directions

entries-moved = { BASE($model) }ビュー{ $view }では、全体の{ PERCENTS($low, $high) }の値が、学習によって{ SETTING($tolerance) }より大きく動きます（{ COUNT($recipes) }レシピ）。{ $seeds }
entries-spread = 同じレシピでのシードによる差は、最大で全体の{ PERCENT($spread) }です。
entries-shared_recipe = { BASE($model) }各モデルの上位{ PERCENT($density) }の値のうち{ PERCENTS($low, $high) }は、同じレシピのほかのシードすべて（最大{ COUNT($models) }モデル）でも上位に入ります（偶然なら{ SHARE_RANGE($chance_low, $chance_high) }）。二つ以上のモデルで上位に入る値のうち、符号が食い違うのは最大{ PERCENT($conflict) }です。
entries-shared_seed = { BASE($model) }各モデルの上位{ PERCENT($density) }の値のうち{ PERCENTS($low, $high) }は、同じシードのほかのレシピすべて（最大{ COUNT($models) }モデル）でも上位に入ります（偶然なら{ SHARE_RANGE($chance_low, $chance_high) }）。二つ以上のモデルで上位に入る値のうち、符号が食い違うのは最大{ PERCENT($conflict) }です。
entries-nothing = この研究では、動いた値を数えていません。
intruders-count = { BASE($model) }各テンソルのW＋deltaの上位{ COUNT($top) }個の特異ベクトルのうち、{ PERCENT($low) }（{ $first }）〜{ PERCENT($high) }（{ $last }）は侵入次元で、Wのどの特異ベクトルともコサインが{ SETTING($epsilon) }未満です。{ $seeds }
intruders-left = { BASE($model) }deltaの書き込み先のうち、{ PERCENT($low) }（{ $first }）〜{ PERCENT($high) }（{ $last }）がベースモデルの上位{ COUNT($top) }個の左特異ベクトルに含まれ、偶然の{ SHORTS($times_low, $times_high) }倍です。{ $seeds }
intruders-right = { BASE($model) }deltaの読み取り元のうち、{ PERCENT($low) }（{ $first }）〜{ PERCENT($high) }（{ $last }）がベースモデルの上位{ COUNT($top) }個の右特異ベクトルに含まれ、偶然の{ SHORTS($times_low, $times_high) }倍です。{ $seeds }
intruders-spread = 同じレシピでのシードによる差は、最大で全体の{ PERCENT($spread) }です。
intruders-most = { BASE($model) }学習後の各テンソルの上位{ COUNT($top) }個の特異ベクトルのうち、ベースモデルに対応するもののない割合は最大{ PERCENT($high) }（{ $last }）です。
intruders-principal = { BASE($model) }deltaがベースモデルの上位{ COUNT($top) }方向に含まれる割合は、ランダムな方向の{ SHORTS($low, $high) }倍です。
intruders-nothing = この研究では、deltaとベースモデルの方向を比べていない（`spectra: base`）か、因子を持つdeltaがありません。

## Findings: chained trials

chains-added = 続けて行った学習による変化の大きさ（L2）は、親モデルの変化の{ PERCENTS($low, $high) }です（{ COUNT($count) }件）。
chains-angle = 二つの変化のなす角は{ DEGREES($low) }〜{ DEGREES($high) }です（90°なら無関係）。{ COUNT($count) }件のうち{ COUNT($back) }件は逆向き（100°超）で、打ち消し合う長さは最大{ PERCENT($lost) }です。
chains-nothing = 続けて行い、測定した学習はありません。

## Findings: along the way

paths-straight = { BASE($model) }学習の経路の長さは、始点と終点を結ぶ直線の{ SHORTS($low, $high) }倍です（{ COUNT($count) }件の学習）。
paths-first = { BASE($model) }{ COUNT($total) }件の学習のうち{ COUNT($count) }件では、{ $layer }が最も早く最終ノルムの半分に達します。
paths-part = { BASE($model) }同じレシピの二つのシードは、全ステップの{ PERCENTS($low, $high) }で分かれます（コサイン0.5未満、{ COUNT($count) }レシピ）。
paths-together = { BASE($model) }{ COUNT($count) }レシピには、最後まで分かれないシードがあります（コサイン0.5以上）。
paths-nothing = この研究では、学習の経路を記録していません。

## Findings: lines between models

connectivity-connected = { BASE($model) }{ $a }と{ $b }は障壁なしにつながっています。損失が直線を上回るのは最大{ SHORT($barrier) }ナットです{ $seeds }。
connectivity-below = { BASE($model) }{ $a }と{ $b }は障壁なしにつながっています。損失が直線を上回る点はありません{ $seeds }。
connectivity-barrier = { BASE($model) }{ $a }と{ $b }の間には障壁があります。t = { SHORT($at) }での{ $data }の損失は直線を{ SHORT($barrier) }ナット上回ります{ $seeds }。
connectivity-summary = { BASE($model) }{ COUNT($pairs) }組のレシピのうち{ COUNT($connected) }組がつながっています（障壁が1トークンあたり0.01ナット以下）。最も高い障壁は{ $a }と{ $b }の間にあり、{ $data }のt = { SHORT($at) }で{ SHORT($barrier) }ナットです{ $seeds }。
connectivity-all_below = { BASE($model) }{ COUNT($pairs) }組のレシピはすべて障壁なしにつながっています。モデル間の損失が直線を上回る点はありません{ $seeds }。
connectivity-baseline = （同じレシピの二つのシード間では最大{ SHORT($barrier) }ナット）
connectivity-no_baseline = （同じレシピの二つのシード間は未測定）
connectivity-summary_seeds = { BASE($model) }{ COUNT($pairs) }レシピのうち{ COUNT($connected) }レシピでは、シード間がつながっています（障壁が1トークンあたり0.01ナット以下）。最も高い障壁は{ $a }の二つのシードの間にあり、{ $data }のt = { SHORT($at) }で{ SHORT($barrier) }ナットです。
connectivity-all_below_seeds = { BASE($model) }{ COUNT($pairs) }レシピのシード間はすべて障壁なしにつながっています。モデル間の損失が直線を上回る点はありません。
connectivity-connected_seeds = { BASE($model) }{ $a }のシード間は障壁なしにつながっています。損失が直線を上回るのは最大{ SHORT($barrier) }ナットです。
connectivity-below_seeds = { BASE($model) }{ $a }のシード間は障壁なしにつながっています。損失が直線を上回る点はありません。
connectivity-barrier_seeds = { BASE($model) }{ $a }の二つのシードの間には障壁があります。t = { SHORT($at) }での{ $data }の損失は直線を{ SHORT($barrier) }ナット上回ります。
connectivity-missing = { COUNT($count) }本の線では障壁を求められません（{ FIRST_SIX($names) }）：{ FIRST_SIX($reasons) }。
connectivity-nothing = この研究では、モデル間の線（`connectivity`）を測定していません。

## Findings: trust

trust-done = { COUNT($total) }件の学習はすべて完了しています。
trust-undone = { COUNT($total) }件の学習のうち{ COUNT($undone) }件が未完了です（失敗{ COUNT($failed) }、中止{ COUNT($blocked) }）。結果は残りの学習についてのものです。
trust-marked = { COUNT($total) }モデルのうち{ COUNT($count) }モデルの回答が、研究で定めた限度を外れています：{ FIRST_SIX($names) }。
trust-merged = ベースモデルの型の重みに統合すると、{ COUNT($count) }件のタスクベクトルはノルムの{ PERCENTS($low, $high) }だけ変わり、最大{ PERCENT($zeros) }の値が0になります。
trust-dequantized = 4ビットの重みから測定すると、{ COUNT($count) }件のタスクベクトルはノルムの{ PERCENTS($low, $high) }だけずれ、最大{ PERCENT($zeros) }の値が0になります。
trust-counted = { BASE($model) }{ COUNT($comparisons) }件の比較は、すべて同じ{ COUNT($numel) }個の値（{ $universe }）についてのものです。
trust-unequal = { BASE($model) }{ COUNT($comparisons) }件の比較は、値の数が{ COUNT($low) }〜{ COUNT($high) }個と異なります。値の数が異なるL1・L2は比べられません。

## Titles of columns

column-model = ベースモデル
column-space = 指標
column-effect = 二つのモデル
column-baseline = 二つのシード
column-chance = 偶然
column-times = シードの何倍か
column-effect_like = 同じシード
column-pairs = モデルの組
column-seed_pairs = シードの組
column-p = p
column-p_adjusted = 補正後のp
column-basis = 根拠
column-effect_verdict = 判定
column-factor = 要因
column-label = レシピ
column-difference = 差分
column-pair = 2モデル
column-learning_rate = 学習率
column-seed = シード
column-seeds = シード数
column-norm_factor = ノルムの比
column-norm_spread = シード間の比
column-norm_verdict = 大きさの判定
column-distance = 距離（L2）
column-deviation = 標準偏差
column-also = ほかの違い
column-ratio_unlike = 異なるシード（倍）
column-ratio_most = 最大でも（倍）
column-boot_low = ブートストラップ下限
column-boot_high = ブートストラップ上限
column-low = 95 %下限
column-high = 95 %上限
column-mean = L2の平均
column-seed_distance = シード間の距離
column-ratio = 同じシード（倍）
column-times_seed = シード間の何倍か
column-verdict = 距離の判定
column-seeds_verdict = 判定
column-source = 出典
column-l2_mean = L2の平均
column-l2_deviation = 標準偏差
column-l2_low = ブートストラップ下限
column-l2_high = ブートストラップ上限
column-l2_factor = 最大／最小
column-relative_distance = ノルムに対する割合
column-norm_of_seed = { $norm }（シード{ $seed }）
column-response = 応答
column-level = 範囲
column-key = 名前
column-df = 自由度
column-sum_squares = 平方和
column-share = 割合
column-partial_share = 偏割合
column-observations = 観測数
column-residual_df = 残差の自由度
column-levels = 水準数
column-silhouette = シルエット
column-stress = ストレス
column-mean_distance = 平均距離
column-seed_share = シード間／平均
column-within = 水準内のコサイン
column-between = 水準間のコサイン
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
column-what = 種類
column-half_l1 = L1の半分を含む上位
column-half_l2 = L2の半分を含む上位
column-l2_in_1 = 上位1 %のL2
column-l2_in_10 = 上位10 %のL2
column-effective_rank = 実効ランク
column-density = 密度
column-num_keep = 残した値の数
column-threshold = しきい値
column-at_or_above = しきい値以上の数
column-l1_share = L1の割合
column-l2_share = L2の割合
column-l2_parent = 親のL2
column-l2_child = 子のL2
column-angle = 角度
column-top = ベクトル数
column-epsilon = ε
column-intruder_share = 侵入次元
column-intruder_spread = 侵入次元（シード差）
column-share_left = 左に含む割合
column-left_spread = 左（シード差）
column-left_times = 左（偶然の何倍か）
column-share_right = 右に含む割合
column-right_spread = 右（シード差）
column-right_times = 右（偶然の何倍か）
column-cancellation = 打ち消し
column-child_share = 子／親
column-numel = 値の数
column-merged_error = 統合時の誤差
column-merged_false_zeros = 統合時の0
column-dequantized_error = 4ビットの誤差
column-dequantized_false_zeros = 4ビットの0
column-universe = 対象範囲
column-comparisons = 比較数
column-length = 経路の長さ
column-displacement = 変位
column-length_ratio = 経路長／変位
column-first = 最初の層
column-first_at = 達した時点
column-steps = ステップ数
column-records = 記録数
column-parted = 分かれた時点
column-last_cosine = 最後のコサイン
column-data = データセット
column-barrier = 障壁（ナット）
column-at = 位置t
column-seed_barrier = シード間（ナット）
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
column-seconds = 時間（秒）
column-marks = 印
column-view = ビュー
column-tolerance = 許容差
column-moved_share = 動いた割合
column-seed_spread = シード差
column-nonzero_share = 0でない割合
column-group = まとめ方
column-models = モデル数
column-all_share = すべてに共通
column-chance_share = 偶然なら
column-over_chance = 偶然の何倍か
column-in_common = 共通の割合
column-common_by_chance = 偶然の共通割合
column-some_share = 一部に共通
column-one_share = 一つだけ
column-none_share = どれにもない
column-sign_conflict = 符号の食い違い
column-cka = CKA
column-seeds_cka = シード間のCKA
column-answers = 回答
column-position = 位置
column-token = トークン
column-kl = KL（ナット）
column-p_a = 一方の確率
column-p_b = 他方の確率
column-top_a = 一方の予測
column-top_b = 他方の予測
column-prompt = プロンプト
column-l1_printed = L1（既報）
column-l1_measured = L1（測定）
column-l1_ratio = L1の比
column-l2_printed = L2（既報）
column-l2_measured = L2（測定）
column-l2_ratio = L2の比

## Verdicts, in sentences and in cells

verdict-stable = 安定
verdict-varies = ばらつく
verdict-seed = シードに左右される
verdict-zero = 0のシードあり
verdict-one_seed = シード一つ
verdict-some_seeds = 一部のシード

short-baseline = { verdict-baseline }
short-most = { verdict-most }
short-part = { verdict-part }
short-little = { verdict-little }
short-beyond = { verdict-clear }
short-near = { verdict-weak }
short-within = { verdict-noise }
short-open = 判定できない
short-unknown = { verdict-missing }
short-stable = { verdict-stable }
short-varies = { verdict-varies }
short-seed = { verdict-seed }
short-zero = { verdict-zero }
short-one_seed = { verdict-one_seed }
short-some_seeds = { verdict-some_seeds }

## Figures: captions, axes, legends

caption-effects = { BASE($model) }点は一つの要因だけが異なる二つのレシピで、帯より右ならシードを変えたときより大きく異なります（{ COUNT($count) }点）。
caption-cka = { BASE($model) }線が低いほど、その要因が異なる二つのモデルの隠れ状態は、その層（層0は埋め込み）で異なります。破線は同じレシピの二つのシードです。
caption-floor = { BASE($model) }点は一つの要因だけが異なる、同じシードの二つのレシピで、縦線より左ではその要因よりシードの違いのほうがモデルを大きく動かします。
caption-seeds = { BASE($model) }同じ組の棒の長さがそろっていれば、ノルムはシードに左右されません（データセットだけが異なる2モデルの差分のL2ノルム）。
caption-attribution = { BASE($model) }色の部分が長いほど、{ WORD($response) }の分散がその要因で説明されます。この実験計画では分離できない要因は同じ色です。
caption-similarity = { BASE($model) }セルは二つのモデルの比較で、対角線に沿った同じ色の塊は似た変化をしたモデルです。左の帯は各モデルの学習方法・データセット・シードです。{ $left }表示中：{ $label }。
caption-map = { BASE($model) }近い点ほど違いの小さいモデルです（{ COUNT($count) }モデル、色は要因、形はシード）。表示中：{ $label }。
caption-similarity-recipes = モデルが{ COUNT($models) }個あるため、シード間の平均を示します。
caption-heatmap = { BASE($model) }明るいセルほど、その層・モジュールが大きく変化しています（{ $measure }、シードの平均）。表示中：{ $label }。
caption-curve = { BASE($model) }線が高いほど、{ $norm }ノルムが少数の値に集中しています（点は研究で定めた密度、点線は独立な正規分布に従う値）。{ COUNT($total) }本の曲線のうち、一つのシードの{ COUNT($shown) }本を表示しています。
caption-intruders = { BASE($model) }線より右では、deltaがランダムな方向よりも多く、ベースモデルの上位{ COUNT($top) }個の特異ベクトルに含まれます（シードの平均）。
caption-chains = { BASE($model) }親モデルの変化、続けて行った学習による変化、両方を合わせた変化（L2）。全体が親モデルの変化より短ければ、後の学習が前の変化を打ち消しています。
caption-paths = { BASE($model) }線が早く上がる層ほど早く動いています（学習中のノルムの、最終ノルムに対する割合）。表示中：{ $label }。
caption-connectivity = { BASE($model) }線が0より上に出るところが障壁です。一方のモデル（t = 0）から他方（t = 1）までの評価用データの損失が直線を上回る量で、破線は同じレシピの二つのシード、表示中は{ $label }です。
chart-cut = { COUNT($total) }件中{ COUNT($shown) }件を表示。
axis-times = シードを変えたときの差の何倍か
axis-cka = CKA
axis-ratio = シード間の距離の何倍か
axis-l2 = 差分のL2ノルム
axis-l2_part = L2ノルム
axis-share = 分散の割合
axis-layer = 層
axis-kind = モジュールの種類
axis-of = モデル
axis-with = 相手
axis-first_dimension = 第一軸
axis-second_dimension = 第二軸
likeness-cosine = コサイン
likeness-where = 出力側
likeness-function = 予測
likeness-signs = 符号
likeness-overlap = 上位の値
reading-cosine = 1は同じ向き、0は無関係、-1は逆向き
reading-where = 共通する方向の割合。偶然なら{ $middle }
reading-function = KLダイバージェンス（ナット／トークン）。0は同一、中央値{ $middle }
reading-signs = 符号が一致する値の割合。偶然なら{ $middle }
reading-overlap = 共通する上位の値の数（偶然の何倍か）
axis-kept = 残した値の割合（大きい順）
axis-norm_share = ノルムの割合
axis-times_chance = ランダムな方向の何倍か
axis-step = ステップ
axis-path = 最終ノルムに対する割合
axis-t = t
axis-excess = 直線を上回る損失（ナット／トークン）
axis-loss = 損失（ナット／トークン）
legend-line = 線
line-difference = 二つのレシピ
line-seeds = 二つのシード
line-of_seeds = { $label }のシード間
legend-cka = 二つのレシピ
legend-seeds_cka = 二つのシード
legend-seed = シード
legend-colour = 色
legend-factor = 要因
legend-part = 部分
legend-comparison = 差分
legend-side = 特異ベクトル
legend-layer = 層
choose = 表示
choose-colour = 色分け
level-none = なし
side-left = 左（書き込み先）
side-right = 右（読み取り元）
part-l2_parent = 親モデルの変化
part-l2_child = 続けた学習の変化
part-l2 = 全体
place-all = 全体
normal = 独立な正規分布に従う値
measure-relative_l2 = ベースモデルの重みに対する相対L2
measure-l2 = L2ノルム

## What the numbers mean; all formulas are in docs/method.md

define-task_vector-head = タスクベクトル
define-task_vector-text = 学習したモデルの重みからベースモデルの重みを引いたもので、学習による変化のすべてです（deltaともいいます）。
define-norms-head = L1、L2
define-norms-text = 変化の大きさで、値の絶対値の和（L1）と、2乗の和の平方根（L2）です。
define-pair-head = データセットだけが異なる2モデル
define-pair-text = ベースモデル、学習方法、シード、学習率、親モデルが同じで、データセットだけが異なる2件の学習です。
define-factor-head = 最大／最小
define-factor-text = シードを変えたときの最大のL2と最小のL2の比で、1.25以下は安定、2以下はばらつき、2を超えるとシードに左右されています。
define-effect-head = 二つのモデル、二つのシード、シードの何倍か
define-effect-text = その要因だけが異なる二つのモデルの平均、同じレシピの二つのシードの平均、前者を後者で割った値です。
define-cka-head = CKA
define-cka-text = 評価用の回答のトークンで二つのモデルの隠れ状態がどれだけ似ているかを示し、1は回転と拡大縮小を除いて同一、0は無関係です。
define-tokens-head = トークンの確率
define-tokens-text = プロンプトとそこまでの回答に続くトークンに、モデルが与える確率です。
define-floor-head = 同じシード、異なるシード（倍）
define-floor-text = レシピ間の距離をシード間の距離で割った値で、異なるシードで1.25以下ならシードのばらつきの範囲内、2以上なら明確です。
define-norms_differ-head = ノルムの比、シード間の比
define-norms_differ-text = 二つのレシピの平均L2の大きい方／小さい方と、同じレシピのシードでの最大／最小で、対数の比が2以上なら明確です。
define-distance-head = 距離、シード間の距離
define-distance-text = 二つのタスクベクトルの差分のL2（測定値、またはノルムとコサインから求めた値）と、同じレシピの二つのシードでのその値です。
define-interval-head = ブートストラップ、95 %
define-interval-text = 95 %区間で、三つ以上のシードの平均にはブートストラップ、偏割合には非心F分布を用いています。
define-share-head = 分散の割合
define-share-text = 分散のうちその要因で説明される割合で、偏割合はその要因と残差の和に対する割合です。
define-cosine-head = コサイン
define-cosine-text = 二つのタスクベクトルの向きの一致で、1は同じ向き、0は無関係、-1は逆向きです。
define-kl-head = KL
define-kl-text = 次のトークンの予測が二つのモデルでどれだけ異なるかを示すKLダイバージェンス（1トークンあたりナット、両方向の平均）で、0なら同一です。
define-silhouette-head = シルエット
define-silhouette-text = モデルが自身の群にほかの群よりどれだけ近いかを-1から1で示し、0.5以上なら群がはっきり分かれています。
define-stress-head = 地図、ストレス
define-stress-text = モデル間の距離をできるだけ保つ二次元の配置と、そこで失われる割合（ストレス）で、0なら正確、0.2以上なら大まかな地図です。
define-relative-head = 相対L2
define-relative-text = 変化のL2を、同じテンソルのベースモデルの重みのL2で割った値です。
define-density-head = 密度、残した値の数
define-density-text = 絶対値の大きい方から残した値の割合と、その個数です。
define-threshold-head = しきい値、しきい値以上の数
define-threshold-text = 残した値のうち最小の絶対値と、それ以上の値の個数で、絶対値が等しい値があると残した数を超えます。
define-half-head = L1・L2の半分を含む上位
define-half-text = ノルムの半分を含むのに必要な値の割合（大きい順）です。
define-rank-head = 実効ランク
define-rank-text = deltaがいくつの方向を使っているかの目安で、総和で割った特異値のエントロピーの指数をテンソルで平均したものです。
define-barrier-head = 障壁
define-barrier-text = 二つのモデルの間で評価用データの損失が直線を上回る最大値（1トークンあたりナット）で、0.01以下ならつながっているとみなします。
define-intruder-head = 侵入次元
define-intruder-text = W＋deltaの上位の左特異ベクトルのうち、ベースモデルのWのどの特異ベクトルともコサインがε未満であるものの割合です。
define-principal-head = 左に含む割合、右に含む割合
define-principal-text = deltaのL2の2乗のうち、ベースモデルの上位の左特異ベクトル（書き込み先）または右特異ベクトル（読み取り元）に含まれる割合です。
define-chain-head = 角度、打ち消し
define-chain-text = 親モデルの変化と続けた学習の変化のなす角と、打ち消し合う長さの割合1 - |p + c| / (|p| + |c|)です。
define-answers-head = 文体、日本語、停止、反復
define-answers-text = 回答例のうち、研究で定めた文体で終わるもの、日本語であるもの、出力上限の前に終わったもの、同じ文言を繰り返すものの割合です。
define-marked-head = 印
define-marked-text = データセット自身の回答は限度内なのに、割合が研究で定めた限度を外れたモデルです。
define-merge-head = マージ
define-merge-text = 複数のモデルをベースモデルの型の一つのチェックポイントに結合したもので、L2はベースモデルとの差分の値です。
define-missing-head = –
define-missing-text = 未測定を表し、ここの数値は丸めてあります（すべての桁はCSVファイル）。

## Two models, and a merge

difference-settings = ビュー{ $view }、範囲{ $universe }
difference-answer = 二つのモデルの差のL2は{ SHORT($l2) }です{ $relative }。{ COUNT($numel) }個の要素のうち{ SHARE($moved) }が{ SETTING($tolerance) }を超えて異なります。
difference-relative = （ベースモデルの重みのL2の{ SHARE($share) }）
difference-same = 比較した{ COUNT($numel) }個の要素は、二つのモデルですべて同じです。
difference-base = ベースモデルからの変化どうしのコサインは{ COSINE($cosine) }（1は同方向、0は無関係）、変化のL2はaが{ SHORT($l2_a) }、bが{ SHORT($l2_b) }です{ $signs }。
difference-signs = （両方が変えた要素の{ SHARE($share) }で符号が一致）
difference-base_itself = 少なくとも一方はベースモデルそのものなので（変化のL2はaが{ SHORT($l2_a) }、bが{ SHORT($l2_b) }）、変化の間の角度はありません。
difference-nothing_in_common = 二つのアダプターが共に変えるテンソルはありません。片方にないものは0として数えます。
difference-left_out = { COUNT($total) }個の要素のうち{ COUNT($count) }個は比較していません。理由ごとの数は最後の節にあります。
difference-section-where = どこが異なるか
difference-section-largest = 差は少数の要素に集中しているか
difference-section-entries = どの要素を比較したか
difference-kind = モジュールの中では「{ $kind }」の差が最も大きく、L2の2乗の{ SHARE($share) }を占めます。
difference-layer = 層の中では第{ $layer }層の差が最も大きく、{ SHARE($share) }を占めます。
difference-caption = 明るいセルほど、その層・モジュールの差が大きいことを示します（{ $measure }）。
difference-grid-layers = 層とモジュールごとのノルム
difference-grid-densities = 大きい差だけを残した場合
difference-grid-curve = 大きい差が占めるノルムの割合
difference-share = 差の大きい方から{ PERCENT($density) }の要素が、L2の{ SHARE($share) }を占めます。
difference-fate = 扱い
difference-compared = 比較
difference-tied = 他のテンソルと共有（そちらで計数）
difference-only_in_a = aのみ
difference-only_in_b = bのみ
difference-cropped = 相手の形の外
difference-skipped = 除外
difference-non_finite = NaNまたは無限大
merge-base = ベースモデル{ $base }
merge-no_base = ベースモデルなし
merge-counts = チェックポイントの要素は{ COUNT($numel) }個です。{ COUNT($tensors_merged) }個のテンソルをマージし、{ COUNT($tensors_copied) }個をそのまま写しました。
merge-adapter-exact = アダプターのパラメータは{ COUNT($parameters) }個、ランクは最大{ $r }です。float32の丸めを除き、アダプターの和に正確に一致します。
merge-adapter-near = アダプターのパラメータは{ COUNT($parameters) }個、ランクは最大{ $r }です。マージしたタスクベクトルとの差は、そのL2ノルムの{ SHORT($error) }です。
merge-untied = { LIST($names) }は、ベースモデルでは他の重みと共有されていますが、ここでは独立した重みです。
merge-section-models = 各モデルから何を残したか
merge-section-adapter = 各テンソルで何が失われたか
merge-section-files = フォルダーにはどのファイルがあるか
merge-grid-models = 各モデルから残したもの{ $model }
merge-grid-tensors = テンソルごと：{ $model }
merge-grid-ranks = ランクと、マージしたタスクベクトルとの差{ $model }
merge-grid-files = ファイル、サイズ、チェックサム{ $model }
merge-column-model = モデル
merge-column-weight = 重み
merge-column-kept = マージした非ゼロ要素
merge-column-kept_share = 割合
merge-column-tensor = テンソル
merge-column-rank = ランク
merge-column-relative_error = 相対誤差
merge-column-file = ファイル
merge-column-size = サイズ
merge-column-sha256 = SHA-256

## Two studies side by side

compare-title = { $one }と{ $other }
compare-number = { $name }の{ $metric }
compare-count = { $metric }（{ COUNT($count) }件）
compare-answer-moved = { COUNT($total) }件の数値のうち{ COUNT($moved) }件が、シードによる差を超えて変わりました。最も大きく変わったのは{ $number }で、{ SHORT($one) }から{ SHORT($other) }へ、シード間の幅の{ $times }です。
compare-answer-none = シードによる差を超えて変わった数値はありません。{ COUNT($total) }件のうち{ COUNT($changed) }件が変わり、最も大きく変わったのは{ $number }で、{ SHORT($one) }から{ SHORT($other) }へ、シード間の幅の{ $times }です。
compare-answer-same = { COUNT($total) }件の数値は、どちらの研究でもすべて同じです。
compare-answer-unknown = { COUNT($total) }件の数値のうち{ COUNT($changed) }件が変わりましたが、シード間の幅が分からないため、シードによる変化かどうかは判断できません。
compare-answer-nothing = 二つの研究に共通する数値はありません。
compare-agree = 範囲外
compare-verdict_differs = { $factor }の{ WORD($space) }（{ $one }では{ $verdict_one }、{ $other }では{ $verdict_other }）
compare-verdicts-differ = 要因の判定{ COUNT($total) }件のうち{ COUNT($count) }件が異なります：{ FIRST_SIX($verdicts) }。
compare-verdicts-same = 要因の判定{ COUNT($total) }件は、{ $one }と{ $other }ですべて同じです。
compare-chart-title = シードのばらつきを超えた数値：{ LIST($counts) }
compare-chart-none = 変わった数値{ COUNT($count) }件のうち、シード間の幅の2倍以上変わったものはありません
compare-chart-summary = 指標（{ LIST($metrics) }）ごとの行に、二つの研究の間で変わった{ COUNT($count) }件の数値の変化が、シード間の幅の何倍かを対数軸上の点で示します。
compare-chart-axis = 変化はシード間の幅の何倍か（対数）
compare-of-trial = 学習の数値
compare-of-comparison = 差分の数値
compare-dot = { $number }：{ SHORT($one) }から{ SHORT($other) }、{ $times }
compare-asked-several = 二つの研究は{ COUNT($count) }項目の設定が同時に異なるため、変化の原因を一つに絞れません。
compare-only = { COUNT($count) }件の数値は片方の研究にしかありません（{ $one }に{ COUNT($in_one) }件、{ $other }に{ COUNT($in_other) }件）。
compare-no_spread = 変わった数値{ COUNT($changed) }件のうち{ COUNT($count) }件はシードが一つしかなく、シードによる変化かどうか分かりません。
compare-section-asked = 設定は何が違うか
compare-section-moved = シードによる差を超えて変わった数値はどれか
compare-section-same = 何が変わらなかったか
compare-section-only = 片方の研究にしかない数値はどれか
compare-section-sentences = 判定の根拠は何か
compare-asked-same = 二つの研究の設定は同じです。
compare-asked-count = 研究ファイルの{ COUNT($count) }項目が異なります。「–」は指定がないことを表します。
compare-field = 項目
compare-moved = { COUNT($beyond) }件がシード間の幅の2倍以上、{ COUNT($near) }件が幅をやや超えて変わりました。
compare-moved-none = シード間の幅の1.25倍を超える変化はありません。
compare-reading = 数値の幅とは、同じレシピ（または同じ二つのレシピの差分）の、シード間の最大値と最小値の差です。二つの研究のうち大きい方の幅を使います。変化が幅の1.25倍以下ならシードのばらつきの範囲内、2倍以上ならシードによる差を超えたとみなします。すべてのシードの値が完全に一致する場合は、どんな変化もシードによる差を超えます（∞）。
compare-same = { COUNT($same) }件は最後のビットまで同じで、{ COUNT($within) }件はシードのばらつきの範囲内で変わり、{ COUNT($unknown) }件は幅が分からないまま変わりました。
compare-only-of = { COUNT($count) }件の数値は{ $study }にしかありません（{ FIRST_SIX($names) }）。
compare-grid-moved = シードによる差を超えて変わった数値
compare-grid-within = シードのばらつきの範囲内で変わった数値
compare-grid-unknown = 幅が分からないまま変わった数値
compare-grid-only_one = { $study }にしかない数値
compare-grid-only_other = { compare-grid-only_one }
compare-model = 学習または差分
compare-metric = 指標
compare-spread = シード間の幅
compare-times = 幅の何倍か
compare-verdict = 判定
compare-beyond = シードによる差を超える
compare-near = シードによる差をやや超える
compare-within = { verdict-noise }
compare-unknown = 幅が不明
