// Batch norm [Ioffe & Szegedy 2015, algorithm 1], the addition of a shortcut and the ReLU after it, on channels-last maps:
// matrices of n rows (images times pixels) and c columns. Two passes over them forward, two backward; memory bounds these,
// so whatever can be recomputed from x is. A map's numbers are bfloat16 or float32, all others float32, and sums over more
// than ROWS rows are double.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t WIDTH = 128;  // columns summed side by side; else each addition would wait for the one before
constexpr int64_t ROWS = 32;    // that wide, summed in float32

struct bfloat16 {
    uint16_t bits;
};

inline float read(float x) { return x; }

inline float read(bfloat16 x) {
    const uint32_t bits = uint32_t(x.bits) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline void write(float& to, float x) { to = x; }

inline void write(bfloat16& to, float x) {  // to the nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    to.bits = x == x ? (bits + 0x7fff + ((bits >> 16) & 1)) >> 16 : 0x7fc0;
}

// What follows the batch norm: nothing, a ReLU, or an addition and a ReLU.
enum Then { NOTHING, RELU, ADD_RELU };

inline float relu(float x) { return x < 0 ? 0 : x; }  // NaN stays

// The matrix viewed with fewer, wider rows, each holding several of the original rows side by side.
struct Shape {
    const int64_t n, c, wide, size;

    Shape(int64_t n, int64_t c) : n(n), c(c), wide(c * std::max<int64_t>(1, WIDTH / c)), size(n * c) {}

    template <class F>
    std::vector<float> columns(F of) const {  // a number for each column, repeated along a wide row
        std::vector<float> values(wide);
        for (int64_t i = 0; i < wide; i++) values[i] = of(i % c);
        return values;
    }

    template <class F>
    void each_row(int64_t from, int64_t to, F use) const {  // its start and how many numbers it has
        for (int64_t start = from; start < to; start += wide) use(start, std::min(wide, to - start));
    }

    // Two sums over each column; `add` adds a row's numbers to the partial sums that it is given.
    template <class F>
    void sums(double* first, double* second, F add) const {
        std::vector<float> a(wide), b(wide);
        std::fill(first, first + c, 0.0);
        std::fill(second, second + c, 0.0);
        for (int64_t start = 0; start < size; start += ROWS * wide) {
            std::fill(a.begin(), a.end(), 0.f);
            std::fill(b.begin(), b.end(), 0.f);
            each_row(start, std::min(size, start + ROWS * wide),
                     [&](int64_t row, int64_t count) { add(row, count, a.data(), b.data()); });
            for (int64_t i = 0; i < wide; i++) {
                first[i % c] += a[i];
                second[i % c] += b[i];
            }
        }
    }
};

// z = then(batch norm of x, plus); mean and 1 / deviation of each column, and the running statistics.
template <class T, Then THEN>
void forward(const T* __restrict x, const T* __restrict plus, const float* weight, const float* bias, int64_t n, int64_t c,
             float eps, float momentum, float* running_mean, float* running_var, T* __restrict z, float* mean,
             float* inverse) {
    const Shape shape(n, c);
    std::vector<double> sum(c), squares(c);
    const auto shifts = shape.columns([&](int64_t k) { return read(x[k]); });  // else squares of a large mean hide the rest
    const float* __restrict shift = shifts.data();
    shape.sums(sum.data(), squares.data(), [=](int64_t row, int64_t count, float* __restrict s, float* __restrict q) {
        for (int64_t i = 0; i < count; i++) {
            const float value = read(x[row + i]) - shift[i];
            s[i] += value;
            q[i] += value * value;
        }
    });
    for (int64_t k = 0; k < c; k++) {
        const double shifted = sum[k] / n, average = shifted + shift[k];
        const double variance = std::max(squares[k] / n - shifted * shifted, 0.0);
        mean[k] = average;
        inverse[k] = 1 / std::sqrt(variance + eps);
        running_mean[k] += momentum * (average - running_mean[k]);
        running_var[k] += momentum * (variance * n / (n - 1) - running_var[k]);
    }
    const auto means = shape.columns([&](int64_t k) { return mean[k]; });
    const auto scales = shape.columns([&](int64_t k) { return weight[k] * inverse[k]; });
    const auto offsets = shape.columns([&](int64_t k) { return bias[k]; });
    const float *__restrict m = means.data(), *__restrict scale = scales.data(), *__restrict offset = offsets.data();
    shape.each_row(0, shape.size, [=](int64_t row, int64_t count) {
        for (int64_t i = 0; i < count; i++) {
            float value = (read(x[row + i]) - m[i]) * scale[i] + offset[i];
            if constexpr (THEN == ADD_RELU) value += read(plus[row + i]);
            write(z[row + i], THEN == NOTHING ? value : relu(value));
        }
    });
}

// The gradients of weight, bias, x (unless null) and plus, from that of z. The ReLU's mask is taken from z after an
// addition, and otherwise from x, which is read anyway.
template <class T, Then THEN>
void backward(const T* __restrict gradient, const T* __restrict x, const T* __restrict z, const float* weight,
              const float* bias, const float* mean, const float* inverse, int64_t n, int64_t c,
              T* __restrict of_plus, T* __restrict of_x, float* of_weight, float* of_bias) {
    const Shape shape(n, c);
    const auto means = shape.columns([&](int64_t k) { return mean[k]; });
    const auto scales = shape.columns([&](int64_t k) { return weight[k] * inverse[k]; });
    const auto offsets = shape.columns([&](int64_t k) { return bias[k]; });
    const float *__restrict m = means.data(), *__restrict scale = scales.data(), *__restrict offset = offsets.data();
    std::vector<double> sum(c), product(c);
    shape.sums(sum.data(), product.data(), [=](int64_t row, int64_t count, float* __restrict s, float* __restrict p) {
        for (int64_t i = 0; i < count; i++) {
            const float value = read(x[row + i]) - m[i];
            float passed = read(gradient[row + i]);
            if constexpr (THEN == RELU) passed = value * scale[i] + offset[i] > 0 ? passed : 0;
            if constexpr (THEN == ADD_RELU) {
                passed = read(z[row + i]) > 0 ? passed : 0;
                write(of_plus[row + i], passed);
            }
            s[i] += passed;
            p[i] += passed * value;
        }
    });
    for (int64_t k = 0; k < c; k++) {
        of_bias[k] = sum[k];
        of_weight[k] = product[k] * inverse[k];
    }
    if (!of_x) return;
    const auto slopes = shape.columns(
        [&](int64_t k) { return -weight[k] * inverse[k] * product[k] / n * inverse[k] * inverse[k]; });
    const auto levels = shape.columns([&](int64_t k) { return -weight[k] * inverse[k] * sum[k] / n; });
    const float *__restrict slope = slopes.data(), *__restrict level = levels.data();
    shape.each_row(0, shape.size, [=](int64_t row, int64_t count) {
        for (int64_t i = 0; i < count; i++) {
            const float value = read(x[row + i]) - m[i];
            float passed = read((THEN == ADD_RELU ? of_plus : gradient)[row + i]);
            if constexpr (THEN == RELU) passed = value * scale[i] + offset[i] > 0 ? passed : 0;
            write(of_x[row + i], passed * scale[i] + value * slope[i] + level[i]);
        }
    });
}

// x = relu(x + plus), of `count` numbers; plus may be null.
template <class T>
void add_relu(T* __restrict x, const T* __restrict plus, int64_t count) {
    for (int64_t i = 0; i < count; i++) write(x[i], relu(plus ? read(x[i]) + read(plus[i]) : read(x[i])));
}

template <class T, class... Rest>
void forward(int then, Rest... rest) {
    (then == ADD_RELU ? forward<T, ADD_RELU> : then == RELU ? forward<T, RELU> : forward<T, NOTHING>)(rest...);
}

template <class T, class... Rest>
void backward(int then, Rest... rest) {
    (then == ADD_RELU ? backward<T, ADD_RELU> : then == RELU ? backward<T, RELU> : backward<T, NOTHING>)(rest...);
}

}  // namespace

#define FUNCTIONS(T)                                                                                                       \
    extern "C" void forward_##T(int then, const T* x, const T* plus, const float* weight, const float* bias, int64_t n,    \
                                int64_t c, float eps, float momentum, float* running_mean, float* running_var, T* z,       \
                                float* mean, float* inverse) {                                                             \
        forward<T>(then, x, plus, weight, bias, n, c, eps, momentum, running_mean, running_var, z, mean, inverse);         \
    }                                                                                                                      \
    extern "C" void backward_##T(int then, const T* gradient, const T* x, const T* z, const float* weight,                 \
                                 const float* bias, const float* mean, const float* inverse, int64_t n, int64_t c,         \
                                 T* of_plus, T* of_x, float* of_weight, float* of_bias) {                                  \
        backward<T>(then, gradient, x, z, weight, bias, mean, inverse, n, c, of_plus, of_x, of_weight, of_bias);           \
    }                                                                                                                      \
    extern "C" void add_relu_##T(T* x, const T* plus, int64_t count) { add_relu(x, plus, count); }
using float32 = float;
FUNCTIONS(bfloat16)
FUNCTIONS(float32)
