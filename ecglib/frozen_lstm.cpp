// LSTMs with frozen weights: outputs, and the gradient of the input alone; and the descent step of `ecglib.masks`.
//
// Windows lie side by side in the lanes of vectors, so that one weight meets LANES windows at a time, none of which
// sees another.  Compiled and called by frozen_lstm.py; needs GCC's or Clang's vector extension and nothing else.
// No -ffast-math: it would undo the rounding in exp_ and switch denormal numbers off in the whole process.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

#define UNROLL _Pragma("GCC unroll 16")

namespace {

using std::size_t;

#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif

template <class R> struct Format;  // of a number: its vectors, and what exp_ needs to know
template <> struct Format<float> {
  typedef float V __attribute__((vector_size(BYTES), may_alias));
  typedef int I __attribute__((vector_size(BYTES), may_alias));
  static constexpr int mantissa = 23, terms = 7;
  static constexpr float limit = 87, rounding = 12582912;  // 1.5 * 2^23: adding it rounds to a whole number
};
template <> struct Format<double> {
  typedef double V __attribute__((vector_size(BYTES), may_alias));
  typedef long long I __attribute__((vector_size(BYTES), may_alias));
  static constexpr int mantissa = 52, terms = 13;
  static constexpr double limit = 708, rounding = 6755399441055744;
};

struct Net {
  int n, steps, features, hidden, layers;
  int width(int layer) const { return layer ? hidden : features; }
};

// NV vectors of windows.  Four of them and the weights of four rows fill the sixteen registers of AVX2 at NV = 3.
template <class R, int NV> struct Tile {
  using F = Format<R>;
  using V = typename F::V;
  using I = typename F::I;
  static constexpr int LANES = NV * BYTES / int(sizeof(R));
  struct Group { V v[NV]; };  // one quantity of all windows of the tile
  using Groups = std::vector<Group>;
  static constexpr int SAVED = 6;  // quantities that a unit leaves on the tape at each step

  static V splat(R a) { return V{} + a; }

  static constexpr R inverse_factorial(int k) { return k < 2 ? R(1) : R(inverse_factorial(k - 1) / k); }

  // 2^round(x log2 e) times the Taylor series of what remains, |r| <= ln(2) / 2
  static V exp_(V x) {
    x = x < -F::limit ? splat(-F::limit) : x;
    x = x > F::limit ? splat(F::limit) : x;
    V power = x * R(1.4426950408889634) + F::rounding;  // its last bits are the whole number
    V r = x - (power - F::rounding) * R(0.6931471805599453);
    V sum = splat(inverse_factorial(F::terms));
    UNROLL for (int k = F::terms - 1; k >= 0; --k) sum = sum * r + inverse_factorial(k);
    return (V)((I)sum + ((I)power << F::mantissa));
  }
  static V sigmoid(V x) { return R(1) / (R(1) + exp_(-x)); }

  // out[row] = bias[row] + sum_k w[k][row] in[k] for four rows
  static __attribute__((noinline)) void product(Group* out, const R* bias, const R* w, const Group* in, int n) {
    V sum[4][NV];
    UNROLL for (int row = 0; row < 4; ++row)
      UNROLL for (int v = 0; v < NV; ++v) sum[row][v] = splat(bias ? bias[row] : 0);
    for (int k = 0; k < n; ++k, w += 4) {
      V a[NV];
      UNROLL for (int v = 0; v < NV; ++v) a[v] = in[k].v[v];
      asm("" ::: "memory");  // else GCC reads them again for each row, and loads bound the loop
      UNROLL for (int row = 0; row < 4; ++row)
        UNROLL for (int v = 0; v < NV; ++v) sum[row][v] += w[row] * a[v];
    }
    UNROLL for (int row = 0; row < 4; ++row)
      UNROLL for (int v = 0; v < NV; ++v) out[row].v[v] = sum[row][v];
  }

  // Rows of an array, one a window, into lanes and back
  static void add(Group* to, const R* rows, size_t stride, int lanes, int width) {
    for (int j = 0; j < lanes; ++j, rows += stride)
      for (int i = 0; i < width; ++i) ((R*)(to + i))[j] += rows[i];
  }
  static void put(const Group* from, R* rows, size_t stride, int lanes, int width) {
    for (int j = 0; j < lanes; ++j, rows += stride)
      for (int i = 0; i < width; ++i) rows[i] = ((const R*)(from + i))[j];
  }

  // weights: by layer and unit, four biases (input, forget, cell, output) and four columns of [W_ih W_hh]; the cell's
  // are doubled, for tanh(z) = 2 sigmoid(2z) - 1 makes one function of all four.
  static void forward(const Net& d, int tile, const R* x, const R* weights, R* tape_, R* out, R* h_n, R* c_n) {
    const int H = d.hidden, lanes = std::min(LANES, d.n - tile * LANES);
    const size_t first = size_t(tile) * LANES;
    Group* tape = tape_ ? (Group*)tape_ + size_t(tile) * d.steps * d.layers * H * SAVED : nullptr;
    std::vector<Groups> in(d.layers), c(d.layers, Groups(H));  // in: of each layer, its input and its last output
    for (int l = 0; l < d.layers; ++l) in[l].resize(d.width(l) + H);
    Groups z(4 * H);
    for (int t = 0; t < d.steps; ++t) {
      std::fill_n(in[0].begin(), d.features, Group{});
      add(in[0].data(), x + (first * d.steps + t) * d.features, size_t(d.steps) * d.features, lanes, d.features);
      const R* w = weights;
      for (int l = 0; l < d.layers; ++l) {
        const int width = d.width(l), terms = t ? width + H : width;  // h_0 = 0
        for (int u = 0; u < H; ++u, w += 4 * (1 + width + H)) product(&z[4 * u], w, w + 4, in[l].data(), terms);
        for (auto& a : z)
          for (V& v : a.v) v = sigmoid(v);
        for (int u = 0; u < H; ++u) {
          Group* gate = &z[4 * u];
          for (int v = 0; v < NV; ++v) {
            V i = gate[0].v[v], f = gate[1].v[v], g = 2 * gate[2].v[v] - 1, o = gate[3].v[v], before = c[l][u].v[v];
            V cell = f * before + i * g, y = 2 * sigmoid(2 * cell) - 1, h = o * y;
            c[l][u].v[v] = cell;
            in[l][width + u].v[v] = h;
            if (l + 1 < d.layers) in[l + 1][u].v[v] = h;
            if (!tape) continue;
            tape[0].v[v] = i * (1 - i) * g;       // d cell / d z of the input,
            tape[1].v[v] = f * (1 - f) * before;  // forget
            tape[2].v[v] = i * (1 - g * g);       // and cell gate
            tape[3].v[v] = f;                     // d cell / d the cell before
            tape[4].v[v] = o * (1 - o) * y;       // d h / d z of the output gate
            tape[5].v[v] = o * (1 - y * y);       // d h / d cell
          }
          if (tape) tape += SAVED;
        }
      }
      const int top = d.layers - 1;
      put(&in[top][d.width(top)], out + (first * d.steps + t) * H, size_t(d.steps) * H, lanes, H);
    }
    for (int l = 0; l < d.layers; ++l) {
      put(&in[l][d.width(l)], h_n + (size_t(l) * d.n + first) * H, H, lanes, H);
      put(c[l].data(), c_n + (size_t(l) * d.n + first) * H, H, lanes, H);
    }
  }

  // weights: by layer, in fours of columns of [W_ih W_hh], one number of each by unit and gate.  A gradient of the
  // outputs that is null is 0.
  static void backward(const Net& d, int tile, const R* g_out, const R* g_h, const R* g_c, const R* weights,
                       const R* tape_, R* g_x) {
    const int H = d.hidden, top = d.layers - 1, lanes = std::min(LANES, d.n - tile * LANES);
    const size_t first = size_t(tile) * LANES;
    const Group* tape = (const Group*)tape_ + size_t(tile + 1) * d.steps * d.layers * H * SAVED;
    std::vector<Groups> g(d.layers), dc(d.layers, Groups(H));  // g: of each layer, of its input and its last output
    std::vector<const R*> columns(d.layers);
    for (int l = 0; l < d.layers; ++l) {
      g[l].resize(d.width(l) + H + 3);
      columns[l] = weights;
      weights += size_t(d.width(l) + H + 3) / 4 * 16 * H;
      if (g_h) add(&g[l][d.width(l)], g_h + (size_t(l) * d.n + first) * H, H, lanes, H);
      if (g_c) add(dc[l].data(), g_c + (size_t(l) * d.n + first) * H, H, lanes, H);
    }
    std::vector<int> given(d.steps);  // steps whose output has a gradient: often the last alone
    for (int row = 0; g_out && row < lanes * d.steps; ++row) {
      int some = 0;
#pragma omp simd reduction(| : some)
      for (int i = 0; i < H; ++i) some |= g_out[(first * d.steps + row) * H + i] != 0;
      given[row % d.steps] |= some;
    }
    Groups dz(4 * H);
    for (int t = d.steps - 1; t >= 0; --t) {
      if (given[t]) add(&g[top][d.width(top)], g_out + (first * d.steps + t) * H, size_t(d.steps) * H, lanes, H);
      for (int l = top; l >= 0; --l) {
        const int width = d.width(l), rows = t ? width + H : width;
        tape -= H * SAVED;
        I alive{};
        for (int u = 0; u < H; ++u)
          for (int v = 0; v < NV; ++v) {
            const Group* s = tape + u * SAVED;
            V dh = g[l][width + u].v[v], cell = dc[l][u].v[v] + dh * s[5].v[v];
            for (int k = 0; k < 3; ++k) dz[4 * u + k].v[v] = cell * s[k].v[v];
            dz[4 * u + 3].v[v] = dh * s[4].v[v];
            dc[l][u].v[v] = cell * s[3].v[v];
            alive |= (I)(dh != 0) | (I)(cell != 0);
          }
        // An LSTM forgets: far from the end a gradient is often exactly 0, and so is the product
        bool any = false;
        for (int j = 0; j < BYTES / int(sizeof(R)); ++j) any |= alive[j] != 0;
        const char* next = (const char*)(t || l ? tape - H * SAVED : tape);
        const size_t bytes = sizeof(Group) * H * SAVED;
        for (int k = 0; any && k < rows; k += 4) {
          for (size_t at = bytes * k / rows; at < bytes * (k + 4) / rows; at += 64) __builtin_prefetch(next + at);
          product(&g[l][k], nullptr, columns[l] + size_t(k) * 4 * H, dz.data(), 4 * H);
        }
        if (!any) std::fill_n(g[l].begin(), rows, Group{});
        if (l)
          for (int u = 0; u < H; ++u)
            for (int v = 0; v < NV; ++v) g[l - 1][d.width(l - 1) + u].v[v] += g[l][u].v[v];
      }
      put(g[0].data(), g_x + (first * d.steps + t) * d.features, size_t(d.steps) * d.features, lanes, d.features);
    }
  }
};

// One step of descent for one mask: scale |1 - m|_1 + rough sum |m_{t+1} - m_t| + score, whose slope by sample is given.
// Each number is rounded where torch rounds it: at the kinks of |.| the last digit decides which way a sample goes.
template <class R> struct Descent {
  int length;
  bool adam;
  R scale, rough, rate, correction, low, high;  // rate and correction: those of the step
  Descent(int length, int adam, const double* s)
      : length(length), adam(adam), scale(s[0]), rough(s[1]), rate(s[2]), correction(s[3]), low(s[4]), high(s[5]) {}

  static R sign(R a) { return a > 0 ? R(1) : a < 0 ? R(-1) : R(0); }

  // The gradient, or with Adam the running means of it and of its square
  void look(const R* m, const R* slope, const R* x, const R* k, R* mean, R* square) const {
    std::vector<R> padded(length + 2), gradient(length);
    std::copy(m, m + length, &padded[1]);
    padded[0] = m[0], padded[length + 1] = m[length - 1];
    const R* p = padded.data();
    R* g = gradient.data();
    const Descent d = *this;  // which the compiler knows to be nobody else's
#pragma omp simd
    for (int t = 0; t < length; ++t) g[t] = slope[t] * (x[t] - k[t]);
#pragma omp simd
    for (int t = 0; t < length; ++t) {
      R rest = d.rough * sign(p[t + 1] - p[t]) - d.rough * sign(p[t + 2] - p[t + 1]);
      g[t] += rest + d.scale * sign(p[t + 1] - 1);
    }
    if (!adam) return (void)std::copy(g, g + length, mean);
#pragma omp simd
    for (int t = 0; t < length; ++t) {
      mean[t] = std::fma(R(1 - 0.9), g[t] - mean[t], mean[t]);
      square[t] = std::fma(R(1 - 0.999) * g[t], g[t], R(0.999) * square[t]);
    }
  }

  // The step and what comes of it.  root: of `square`, by torch, whose square root is not everybody's to the last digit
  void step(R* m, const R* mean, const R* root, const R* x, const R* k, R* masked, R* area, R* tv) const {
    R off = 0, bends = 0;
    const Descent d = *this;
    if (adam) {
#pragma omp simd
      for (int t = 0; t < length; ++t) m[t] += -d.rate * mean[t] / (root[t] / d.correction + R(1e-8));
    } else {
#pragma omp simd
      for (int t = 0; t < length; ++t) m[t] = std::fma(-d.rate, mean[t], m[t]);
    }
#pragma omp simd reduction(+ : off)
    for (int t = 0; t < length; ++t) {
      m[t] = m[t] < d.low ? d.low : m[t] > d.high ? d.high : m[t];
      masked[t] = m[t] * x[t] + k[t] * (1 - m[t]);
      off += std::abs(1 - m[t]);
    }
#pragma omp simd reduction(+ : bends)
    for (int t = 1; t < length; ++t) bends += std::abs(m[t] - m[t - 1]);
    *area = off, *tv = bends;
  }
};

// While it lives, a vanishing gradient may be 0 before it is denormal and slow
struct Flush {
#ifdef __SSE__
  const unsigned before = _mm_getcsr();
  Flush() { _mm_setcsr(before | 0x8040); }
  ~Flush() { _mm_setcsr(before); }
#endif
};

// Call work(0) ... work(n - 1), shared among threads as they become free.  They are torch's own where torch was loaded
// first and has GCC's OpenMP, too: threads of ours would have to wait while those, idle, spin on the same processors.
template <class Work> void share(int n, int threads, Work work) {
#pragma omp parallel for num_threads(std::min(threads, n)) schedule(dynamic)
  for (int i = 0; i < n; ++i) {
    const Flush flush;
    work(i);
  }
}

template <class R> using Few = Tile<R, 1>;
template <class R> using Many = Tile<R, 3>;
template <class R> int lanes(int n) { return n <= Few<R>::LANES ? Few<R>::LANES : Many<R>::LANES; }

template <class R, class... Args> void forward(const Net& d, int threads, Args... args) {
  const bool few = d.n <= Few<R>::LANES;
  share((d.n - 1) / lanes<R>(d.n) + 1, threads,
        [&](int tile) { few ? Few<R>::forward(d, tile, args...) : Many<R>::forward(d, tile, args...); });
}
template <class R, class... Args> void backward(const Net& d, int threads, Args... args) {
  const bool few = d.n <= Few<R>::LANES;
  share((d.n - 1) / lanes<R>(d.n) + 1, threads,
        [&](int tile) { few ? Few<R>::backward(d, tile, args...) : Many<R>::backward(d, tile, args...); });
}

}  // namespace

#define FOR(R, bits)                                                                                                   \
  int lanes##bits(int n) { return lanes<R>(n); }                                                                       \
  void forward##bits(const Net* d, int threads, const R* x, const R* weights, R* tape, R* out, R* h_n, R* c_n) {       \
    forward<R>(*d, threads, x, weights, tape, out, h_n, c_n);                                                          \
  }                                                                                                                    \
  void backward##bits(const Net* d, int threads, const R* g_out, const R* g_h, const R* g_c, const R* weights,         \
                      const R* tape, R* g_x) {                                                                         \
    backward<R>(*d, threads, g_out, g_h, g_c, weights, tape, g_x);                                                     \
  }                                                                                                                    \
  void look##bits(int n, int length, int threads, int adam, const double* s, const R* m, const R* slope, const R* x,   \
                  const R* k, R* mean, R* square) {                                                                    \
    const Descent<R> d(length, adam, s);                                                                               \
    share(n, threads, [&](int i) {                                                                                     \
      const size_t at = size_t(i) * length;                                                                            \
      d.look(m + at, slope + at, x + at, k + at, mean + at, square + at);                                              \
    });                                                                                                                \
  }                                                                                                                    \
  void step##bits(int n, int length, int threads, int adam, const double* s, R* m, const R* mean, const R* root,       \
                  const R* x, const R* k, R* masked, R* area, R* tv) {                                                 \
    const Descent<R> d(length, adam, s);                                                                               \
    share(n, threads, [&](int i) {                                                                                     \
      const size_t at = size_t(i) * length;                                                                            \
      d.step(m + at, mean + at, root + at, x + at, k + at, masked + at, area + i, tv + i);                             \
    });                                                                                                                \
  }

extern "C" {
FOR(float, 32)
FOR(double, 64)
}
