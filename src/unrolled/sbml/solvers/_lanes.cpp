// Dormand-Prince 5(4) for many samples: one per lane of a vector register, each with its own time and step size.
// A lane whose sample is done loads the next one, so no lane idles. `RATE` is written in by `lanes.py`; the arithmetic
// is that of `adaptive.py`, which stays the reference.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__AVX512F__)
#define W 8
#define VECTOR_MATH(name) _ZGVeN8v_##name
#define VECTOR_MATH2(name) _ZGVeN8vv_##name
#elif defined(__AVX2__)
#define W 4
#define VECTOR_MATH(name) _ZGVdN4v_##name
#define VECTOR_MATH2(name) _ZGVdN4vv_##name
#else
#define W 4
#endif
typedef double vd __attribute__((vector_size(8 * W)));
typedef int64_t vm __attribute__((vector_size(8 * W)));
#define EACH(expression) ({ vd r_; for (int l = 0; l < W; ++l) r_[l] = (expression); r_; })
#define LANEWISE(name) static inline vd v_##name(vd a) { return EACH(std::name(a[l])); }

static inline vd v_abs(vd a) { return (vd)((vm)a & 0x7fffffffffffffffLL); }
static inline vd v_max(vd a, vd b) { return a != a ? a : (a > b ? a : b); }
static inline vd v_min(vd a, vd b) { return a != a ? a : (a < b ? a : b); }
static inline vd v_sqrt(vd a) { vd r; for (int l = 0; l < W; ++l) r[l] = __builtin_sqrt(a[l]); return r; }
static inline vd v_floor(vd a) { vd r; for (int l = 0; l < W; ++l) r[l] = __builtin_floor(a[l]); return r; }
static inline vd v_ceil(vd a) { vd r; for (int l = 0; l < W; ++l) r[l] = __builtin_ceil(a[l]); return r; }
static inline vd v_trunc(vd a) { vd r; for (int l = 0; l < W; ++l) r[l] = __builtin_trunc(a[l]); return r; }
#if defined(USE_VECTOR_MATH) && defined(VECTOR_MATH)
extern "C" vd VECTOR_MATH(exp)(vd);
extern "C" vd VECTOR_MATH(log)(vd);
extern "C" vd VECTOR_MATH(sin)(vd);
extern "C" vd VECTOR_MATH(cos)(vd);
extern "C" vd VECTOR_MATH2(pow)(vd, vd);
static inline vd v_exp(vd a) { return VECTOR_MATH(exp)(a); }
static inline vd v_log(vd a) { return VECTOR_MATH(log)(a); }
static inline vd v_sin(vd a) { return VECTOR_MATH(sin)(a); }
static inline vd v_cos(vd a) { return VECTOR_MATH(cos)(a); }
static inline vd v_pow(vd a, vd b) { return VECTOR_MATH2(pow)(a, b); }
#else
LANEWISE(exp) LANEWISE(log) LANEWISE(sin) LANEWISE(cos)
static inline vd v_pow(vd a, vd b) { return EACH(std::pow(a[l], b[l])); }
#endif
LANEWISE(log10) LANEWISE(tan) LANEWISE(asin) LANEWISE(acos) LANEWISE(atan) LANEWISE(sinh) LANEWISE(cosh)
LANEWISE(tanh) LANEWISE(asinh) LANEWISE(acosh) LANEWISE(atanh) LANEWISE(expm1) LANEWISE(log1p)
static inline vd v_atan2(vd a, vd b) { return EACH(std::atan2(a[l], b[l])); }
static inline vd select(vm m, vd a, vd b) { return m ? a : b; }
static inline bool any(vm m) { for (int l = 0; l < W; ++l) if (m[l]) return true; return false; }
static inline vd all_lanes(double v) { return (vd){} + v; }

//PREPARE

//RATE

extern "C" int lane_width() { return W; }

extern "C" void evaluate(long n, const double* t, const double* x, const double* p, long p_stride, double* out) {
    // Rate at n points: x and out are [D, n], p is [P, n] (p_stride = n) or [P] (p_stride = 0).
    vd xs[D], ps[P + 1], qs[Q + 1], ds[D];
    if (!p_stride) {
        for (int i = 0; i < P; ++i) ps[i] = all_lanes(p[i]);
        prepare(ps, qs);
    }
    for (long first = 0; first < n; first += W) {
        vd ts = {};
        const long m = n - first < W ? n - first : W;
        if (m == W) {
            std::memcpy(&ts, t + first, sizeof(vd));
            for (int i = 0; i < D; ++i) std::memcpy(&xs[i], x + i * n + first, sizeof(vd));
            if (p_stride) for (int i = 0; i < P; ++i) std::memcpy(&ps[i], p + i * n + first, sizeof(vd));
        } else {
            for (int l = 0; l < W; ++l) {
                long s = first + (l < m ? l : 0);
                ts[l] = t[s];
                for (int i = 0; i < D; ++i) xs[i][l] = x[i * n + s];
                if (p_stride) for (int i = 0; i < P; ++i) ps[i][l] = p[i * n + s];
            }
        }
        if (p_stride) prepare(ps, qs);
        rate(ts, xs, ps, qs, ds);
        for (int i = 0; i < D; ++i) std::memcpy(out + i * n + first, &ds[i], 8 * m);
    }
}

static inline vd norm(const vd* v, const vd* scale) {
    vd sum = {};
    for (int i = 0; i < D; ++i) { vd s = v[i] / scale[i]; sum += s * s; }
    return v_sqrt(sum / (double)D);
}

// Samples [first, last) of B. x0 [B, D]; p [P, B] or [P]; out [n, B, D]. On return, per sample: code (0 done, 1 rate not
// finite, 2 step below rounding, 3 step limit, 6 start not finite, 7 stiff), where it stands (t_at, x_at, next output),
// accepted and rejected steps, and the component that failed.
extern "C" void integrate(long first, long last, long B, long n, const double* times, const double* x0, const double* p,
                          long p_stride, double rtol, const double* atol, long max_steps, long detect, double first_step,
                          double* out, double* t_at, double* x_at, int64_t* next_out, int64_t* code, int64_t* steps,
                          int64_t* rejected, int64_t* component) {
    const double eps = std::numeric_limits<double>::epsilon(), t_end = times[n - 1];
    vd t = {}, h = {}, past = all_lanes(1e-4), x[D], k1[D], k2[D], k3[D], k4[D], k5[D], k6[D], k7[D], y[D], before[D];
    vd end[D], err[D], scale[D], ps[P + 1], qs[Q + 1], at[D];
    vm active = {}, again = {};
    int64_t stiff[W] = {}, calm[W] = {}, output[W] = {}, sample[W], attempts[W] = {}, taken[W] = {}, refused[W] = {};
    for (int i = 0; i < D; ++i) { x[i] = all_lanes(1.0); k1[i] = (vd){}; at[i] = all_lanes(atol[i]); }
    for (int i = 0; i < P; ++i) ps[i] = all_lanes(1.0);
    long coming = first;
    auto leave = [&](int l, int why, int which) {
        long s = sample[l];
        t_at[s] = t[l];
        for (int i = 0; i < D; ++i) x_at[s * D + i] = x[i][l];
        next_out[s] = output[l]; code[s] = why; steps[s] = taken[l]; rejected[s] = refused[l]; component[s] = which;
        active[l] = 0; h[l] = 0;
    };
    for (;;) {
        vm fresh = {};
        bool some = false;
        for (int l = 0; l < W; ++l) {
            while (!active[l] && coming < last) {
                long s = coming++;
                sample[l] = s; t[l] = times[0]; output[l] = 0; taken[l] = refused[l] = attempts[l] = stiff[l] = calm[l] = 0;
                past[l] = 1e-4; again[l] = 0;
                int bad = -1;
                for (int i = D; i-- > 0;) {
                    double v = x0[s * D + i];
                    x[i][l] = v;
                    if (!std::isfinite(v)) bad = i;
                }
                for (int i = 0; i < P; ++i) ps[i][l] = p_stride ? p[i * B + s] : p[i];
                if (bad >= 0) { leave(l, 6, bad); continue; }
                for (int i = 0; i < D; ++i) out[s * D + i] = x[i][l];
                output[l] = 1;
                if (n == 1) { leave(l, 0, -1); continue; }
                active[l] = fresh[l] = -1;
                some = true;
            }
        }
        if (!any(active)) return;
        if (some) {
            prepare(ps, qs);
            rate(t, x, ps, qs, y);
            vm finite = ~(vm){};
            for (int i = 0; i < D; ++i) {
                finite &= (y[i] - y[i] == (vd){});
                scale[i] = at[i] + rtol * v_abs(x[i]);
                k1[i] = select(fresh, y[i], k1[i]);
            }
            for (int l = 0; l < W; ++l)
                if (fresh[l] && !finite[l]) {
                    int bad = 0;
                    while (std::isfinite(y[bad][l])) ++bad;
                    leave(l, 1, bad);
                    fresh[l] = 0;
                }
            vd span = t_end - t, d0 = norm(x, scale), d1 = norm(k1, scale);
            vm small = (d0 < all_lanes(1e-5)) | (d1 < all_lanes(1e-5));
            vd h0 = select(small, all_lanes(1e-6), 0.01 * d0 / select(d1 > (vd){}, d1, all_lanes(1.0)));
            h0 = v_min(h0, span);
            for (int i = 0; i < D; ++i) y[i] = x[i] + h0 * k1[i];
            rate(t + h0, y, ps, qs, k2);
            for (int i = 0; i < D; ++i) k2[i] -= k1[i];
            vd d2 = norm(k2, scale) / select(h0 > (vd){}, h0, all_lanes(1.0));
            d2 = select(d2 == d2, d2, all_lanes(INFINITY));
            vd steep = v_max(d1, d2);
            vd h1 = select(steep <= all_lanes(1e-15), v_max(h0 * 1e-3, all_lanes(1e-6)), v_pow(0.01 / steep, all_lanes(0.2)));
            vd guess = v_min(v_min(100.0 * h0, h1), span);
            guess = select(guess > (vd){}, guess, h0);
            if (first_step > 0) guess = v_min(span, all_lanes(first_step));
            h = select(fresh, guess, h);
        }
        vd left = t_end - t;
        vm ending = h * 1.01 >= left;
        vd hs = select(active, select(ending, left, h), (vd){}), to = select(ending, all_lanes(t_end), t + hs);
        for (int i = 0; i < D; ++i) y[i] = x[i] + hs * (1.0 / 5 * k1[i]);
        rate(t + 1.0 / 5 * hs, y, ps, qs, k2);
        for (int i = 0; i < D; ++i) y[i] = x[i] + hs * (3.0 / 40 * k1[i] + 9.0 / 40 * k2[i]);
        rate(t + 3.0 / 10 * hs, y, ps, qs, k3);
        for (int i = 0; i < D; ++i) y[i] = x[i] + hs * (44.0 / 45 * k1[i] - 56.0 / 15 * k2[i] + 32.0 / 9 * k3[i]);
        rate(t + 4.0 / 5 * hs, y, ps, qs, k4);
        for (int i = 0; i < D; ++i)
            y[i] = x[i] + hs * (19372.0 / 6561 * k1[i] - 25360.0 / 2187 * k2[i] + 64448.0 / 6561 * k3[i] - 212.0 / 729 * k4[i]);
        rate(t + 8.0 / 9 * hs, y, ps, qs, k5);
        for (int i = 0; i < D; ++i)
            before[i] = x[i] + hs * (9017.0 / 3168 * k1[i] - 355.0 / 33 * k2[i] + 46732.0 / 5247 * k3[i] + 49.0 / 176 * k4[i]
                                     - 5103.0 / 18656 * k5[i]);
        rate(t + hs, before, ps, qs, k6);
        for (int i = 0; i < D; ++i)
            end[i] = x[i] + hs * (35.0 / 384 * k1[i] + 500.0 / 1113 * k3[i] + 125.0 / 192 * k4[i] - 2187.0 / 6784 * k5[i]
                                  + 11.0 / 84 * k6[i]);
        rate(t + hs, end, ps, qs, k7);
        vd rough = {}, apart = {};
        vm finite = ~(vm){};
        for (int i = 0; i < D; ++i) {
            err[i] = hs * (71.0 / 57600 * k1[i] - 71.0 / 16695 * k3[i] + 71.0 / 1920 * k4[i] - 17253.0 / 339200 * k5[i]
                           + 22.0 / 525 * k6[i] - 1.0 / 40 * k7[i]);
            scale[i] = at[i] + rtol * v_max(v_abs(x[i]), v_abs(end[i]));
            vd a = k7[i] - k6[i], b = end[i] - before[i];
            rough += a * a;
            apart += b * b;
            finite &= (end[i] - end[i] == (vd){}) & (k7[i] - k7[i] == (vd){});
        }
        vd error = norm(err, scale);
        finite &= error - error == (vd){};
        vm accept = finite & (error <= all_lanes(1.0)) & active;
        // Hairer's controller.
        vd bounded = v_max(select(finite, error, all_lanes(INFINITY)), all_lanes(1e-10));
        vd root = v_pow(bounded, all_lanes(0.17));
        vd ratio = select(accept, root / v_pow(past, all_lanes(0.04)), root) / 0.9;
        vd factor = v_min(v_max(1.0 / ratio, all_lanes(0.2)), all_lanes(10.0));
        factor = select(again, v_min(factor, all_lanes(1.0)), factor);
        vd grown = hs * factor;
        vm wants = {};
        bool writes = false;
        for (int l = 0; l < W; ++l)
            if (accept[l] && output[l] < n && times[output[l]] <= to[l]) { wants[l] = -1; writes = true; }
        if (writes) {
            vd c1[D], c2[D], c3[D], c4[D];
            for (int i = 0; i < D; ++i) {
                vd difference = end[i] - x[i], bend = hs * k1[i] - difference;
                vd lastc = hs * (-12715105075.0 / 11282082432 * k1[i] + 87487479700.0 / 32700410799 * k3[i]
                                 - 10690763975.0 / 1880347072 * k4[i] + 701980252875.0 / 199316789632 * k5[i]
                                 - 1453857185.0 / 822651844 * k6[i] + 69997945.0 / 29380423 * k7[i]);
                c1[i] = difference; c2[i] = bend; c3[i] = difference - hs * k7[i] - bend + lastc; c4[i] = -lastc;
            }
            while (any(wants)) {
                vd theta = {};
                for (int l = 0; l < W; ++l) if (wants[l]) theta[l] = (times[output[l]] - t[l]) / hs[l];
                for (int i = 0; i < D; ++i)
                    y[i] = x[i] + theta * (c1[i] + (1.0 - theta) * (c2[i] + theta * (c3[i] + theta * c4[i])));
                for (int l = 0; l < W; ++l)
                    if (wants[l]) {
                        double* row = out + (output[l] * B + sample[l]) * D;
                        if (times[output[l]] == to[l]) for (int i = 0; i < D; ++i) row[i] = end[i][l];
                        else for (int i = 0; i < D; ++i) row[i] = y[i][l];
                        ++output[l];
                        if (output[l] >= n || times[output[l]] > to[l]) wants[l] = 0;
                    }
            }
        }
        vm stuck = active & ~accept & (hs <= 4 * eps * v_max(v_abs(t), all_lanes(eps * std::fabs(t_end))));
        t = select(accept, to, t);
        past = select(accept, v_max(error, all_lanes(1e-4)), past);
        for (int i = 0; i < D; ++i) { x[i] = select(accept, end[i], x[i]); k1[i] = select(accept, k7[i], k1[i]); }
        h = grown;
        again = ~accept;
        vd edge = hs * v_sqrt(rough) / select(apart > (vd){}, v_sqrt(apart), all_lanes(1.0));
        for (int l = 0; l < W; ++l) {
            if (!active[l]) continue;
            ++attempts[l];
            if (accept[l]) {
                ++taken[l];
                if (edge[l] > 3.25) { ++stiff[l]; calm[l] = 0; }
                else if (++calm[l] >= 6) stiff[l] = 0;
            } else ++refused[l];
            if (output[l] >= n) leave(l, 0, -1);
            else if (stuck[l]) {
                int which = 0;
                if (finite[l]) { for (int i = 1; i < D; ++i) if (std::fabs(err[i][l] / scale[i][l]) > std::fabs(err[which][l] / scale[which][l])) which = i; }
                else while (which < D - 1 && std::isfinite(end[which][l]) && std::isfinite(err[which][l])) ++which;
                leave(l, finite[l] ? 2 : 1, which);
            } else if (detect && stiff[l] >= 15) leave(l, 7, -1);
            else if (attempts[l] >= max_steps) leave(l, 3, -1);
        }
    }
}
