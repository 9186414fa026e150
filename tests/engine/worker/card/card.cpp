// A pretended CUDA card: tensors say cuda:0, their bytes lie in main memory, and the CPU's kernels do their operations. So
// torch takes its CUDA branches with real values; memory is counted, and running out of it is torch's own error.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/native/transformers/sdp_utils_cpp.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/csrc/Generator.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/library.h>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>

using c10::Device; using c10::DeviceIndex; using c10::DeviceType; using c10::DispatchKey; using c10::DispatchKeySet;
namespace {
std::mutex m;
int64_t now_ = 0, peak_ = 0, reserved_ = 0, reserved_peak_ = 0, limit_ = int64_t(1) << 40;

void take(int64_t n) {
  std::lock_guard<std::mutex> g(m);
  n = (n + 511) / 512 * 512;
  TORCH_CHECK_WITH(OutOfMemoryError, now_ + n <= limit_, "CUDA out of memory. Tried to allocate ", n, " bytes. GPU 0 has ",
      "a total capacity of ", limit_, " bytes of which ", limit_ - now_, " is free.");
  now_ += n;
  peak_ = std::max(peak_, now_); reserved_ = std::max(reserved_, now_); reserved_peak_ = std::max(reserved_peak_, reserved_);
}
void give(int64_t n) { std::lock_guard<std::mutex> g(m); now_ -= (n + 511) / 512 * 512; }

struct Block { void* p; int64_t n; at::Storage keep; };
void drop(void* ctx) {
  auto* b = static_cast<Block*>(ctx);
  if (b->p) free(b->p);
  give(b->n);
  delete b;
}
struct Alloc final : c10::Allocator {
  c10::DataPtr allocate(size_t n) override {
    Device d(DeviceType::CUDA, 0);
    if (n == 0) return {nullptr, nullptr, &drop, d};
    take(n);
    void* p = nullptr;
    if (posix_memalign(&p, 512, n)) { give(n); TORCH_CHECK(false, "the machine itself is out of memory"); }
    return {p, new Block{p, int64_t(n), at::Storage()}, &drop, d};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* dest, const void* src, std::size_t n) const override { memcpy(dest, src, n); }
};
Alloc alloc;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  Device exchangeDevice(Device d) const override { return Device(DeviceType::CUDA, 0); }
  Device getDevice() const override { return Device(DeviceType::CUDA, 0); }
  void setDevice(Device) const override {}
  void uncheckedSetDevice(Device) const noexcept override {}
  c10::Stream getStream(Device d) const override { return c10::Stream(c10::Stream::DEFAULT, Device(DeviceType::CUDA, 0)); }
  c10::Stream getDefaultStream(Device) const override { return getStream(Device(DeviceType::CUDA, 0)); }
  c10::Stream getStreamFromGlobalPool(Device, bool) const override { return getStream(Device(DeviceType::CUDA, 0)); }
  c10::Stream getNewStream(Device, int) const override { return getStream(Device(DeviceType::CUDA, 0)); }
  c10::Stream exchangeStream(c10::Stream s) const override { return getStream(Device(DeviceType::CUDA, 0)); }
  DeviceIndex deviceCount() const noexcept override { return 1; }
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
  void record(void** event, const c10::Stream&, const DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const DeviceIndex) const override {}
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
};
Guard guard;

struct Gen final : c10::GeneratorImpl {
  at::Generator inner;
  Gen() : GeneratorImpl(Device(DeviceType::CUDA, 0), DispatchKeySet(DispatchKey::CUDA)),
          inner(at::detail::createCPUGenerator(67280421310721ULL)) {}
  void set_current_seed(uint64_t s) override { inner.set_current_seed(s); }
  void set_offset(uint64_t) override {}
  uint64_t get_offset() const override { return 0; }
  uint64_t current_seed() const override { return inner.current_seed(); }
  uint64_t seed() override { return inner.seed(); }
  void set_state(const c10::TensorImpl& s) override { inner.unsafeGetGeneratorImpl()->set_state(s); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return inner.unsafeGetGeneratorImpl()->get_state(); }
  Gen* clone_impl() const override { auto* g = new Gen(); g->inner = inner.clone(); return g; }
};
at::Generator& default_gen() { static auto* g = new at::Generator(c10::make_intrusive<Gen>()); return *g; }

struct FakeHooks : at::CUDAHooksInterface {
  FakeHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  const at::Generator& getDefaultGenerator(DeviceIndex) const override { return default_gen(); }
  at::Generator getNewGenerator(DeviceIndex) const override { return at::Generator(c10::make_intrusive<Gen>()); }
  Device getDeviceFromPtr(void*) const override { return Device(DeviceType::CUDA, 0); }
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(DeviceIndex) const override {}
  DeviceIndex exchangeDevice(DeviceIndex) const override { return 0; }
  DeviceIndex maybeExchangeDevice(DeviceIndex) const override { return 0; }
  int getNumGPUs() const override { return 1; }
  c10::Allocator* getCUDADeviceAllocator() const override { return &alloc; }
  c10::Allocator* getPinnedMemoryAllocator() const override { return c10::GetCPUAllocator(); }
  void deviceSynchronize(DeviceIndex) const override {}
};

at::Tensor alias_as(const at::Tensor& t, DeviceType to, const at::Storage& storage, const at::Tensor* of = nullptr) {
  auto keys = DispatchKeySet(to == DeviceType::CUDA ? DispatchKey::CUDA : DispatchKey::CPU);
  auto out = of ? at::detail::make_tensor<c10::TensorImpl>(c10::TensorImpl::VIEW, c10::Storage(storage), of->key_set(), t.dtype())
                : at::detail::make_tensor<c10::TensorImpl>(c10::Storage(storage), keys, t.dtype());
  out.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
  if (t.unsafeGetTensorImpl()->is_wrapped_number()) out.unsafeGetTensorImpl()->set_wrapped_number(true);
  return out;
}
bool share(const at::Storage& a, const at::Storage& b) { return a.unsafeGetStorageImpl() == b.unsafeGetStorageImpl(); }
at::Storage host_storage(const at::Tensor& t) {  // the same bytes, as the CPU's; may be resized, and is then no longer the same
  auto s = t.storage();
  auto* keep = new at::Storage(s);
  auto forget = [](void* k) { delete static_cast<at::Storage*>(k); };
  c10::DataPtr p(const_cast<void*>(s.data()), keep, forget, Device(DeviceType::CPU));
  return at::Storage(c10::Storage::use_byte_size_t(), s.nbytes(), std::move(p), c10::GetCPUAllocator(), true);
}
at::Storage card_storage(const at::Storage& host) {  // adopts the CPU's bytes
  int64_t n = host.nbytes();
  if (n) take(n);
  auto* b = new Block{nullptr, n, host};
  c10::DataPtr p(const_cast<void*>(host.data()), b, &drop, Device(DeviceType::CUDA, 0));
  return at::Storage(c10::Storage::use_byte_size_t(), n, std::move(p), &alloc, true);
}

// The arguments of an operation as the CPU's tensors, and its results as the card's again; aliases stay aliases.
struct Swap {
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs;  // of the card, of the CPU
  bool cards = false, hosts = false;
  at::Tensor down(const at::Tensor& t) {
    if (!t.defined()) return t;
    if (!t.is_cuda()) { if (t.device().is_cpu() && t.dim() > 0) hosts = true; return t; }
    cards = true;
    for (auto& p : pairs) if (p.first.is_same(t)) return p.second;
    at::Storage s;
    for (auto& p : pairs) if (share(p.first.storage(), t.storage())) s = p.second.storage();
    if (!s) s = host_storage(t);
    auto c = alias_as(t, DeviceType::CPU, s);
    pairs.emplace_back(t, c);
    return c;
  }
  c10::IValue down(const c10::IValue& v) {
    if (v.isTensor()) return down(v.toTensor());
    if (v.isDevice()) return v.toDevice().is_cuda() ? c10::IValue(Device(DeviceType::CPU)) : v;
    if (v.isGenerator()) {
      auto g = v.toGenerator();
      return g.defined() && g.device().is_cuda() ? c10::IValue(static_cast<Gen*>(g.unsafeGetGeneratorImpl())->inner) : v;
    }
    if (v.isTensorList()) {
      c10::List<at::Tensor> l;
      for (const at::Tensor& t : v.toTensorVector()) l.push_back(down(t));
      return l;
    }
    if (v.isList() && v.toListRef().size() && (v.toListRef()[0].isTensor() || v.toListRef()[0].isNone())) {
      auto l = c10::impl::GenericList(v.toList().elementType());
      for (const auto& e : v.toListRef()) l.push_back(e.isTensor() ? c10::IValue(down(e.toTensor())) : e);
      return l;
    }
    return v;
  }
  at::Tensor up(const at::Tensor& t) {
    if (!t.defined() || !t.device().is_cpu()) return t;
    for (auto& p : pairs) if (p.second.is_same(t)) return p.first;
    for (auto& p : pairs) if (share(p.second.storage(), t.storage()))
      return alias_as(t, DeviceType::CUDA, p.first.storage(), &p.first);
    for (auto& p : made) if (share(p.first, t.storage())) return alias_as(t, DeviceType::CUDA, p.second);
    auto s = card_storage(t.storage());
    made.emplace_back(t.storage(), s);
    return alias_as(t, DeviceType::CUDA, s);
  }
  std::vector<std::pair<at::Storage, at::Storage>> made;
  c10::IValue up(const c10::IValue& v) {
    if (v.isTensor()) return up(v.toTensor());
    if (v.isTensorList()) {
      c10::List<at::Tensor> l;
      for (const at::Tensor& t : v.toTensorVector()) l.push_back(up(t));
      return l;
    }
    return v;
  }
  void settle() {  // what was resized has other bytes now
    for (auto& p : pairs) {
      if (p.second.sizes() != p.first.sizes() || p.second.storage().data() != p.first.storage().data()) {
        auto s = card_storage(p.second.storage());
        auto* impl = p.first.unsafeGetTensorImpl();
        auto old = p.first.storage();
        old.unsafeGetStorageImpl()->set_nbytes(s.nbytes());
        auto moved = s.set_data_ptr(c10::DataPtr());
        old.set_data_ptr_noswap(std::move(moved));
        impl->set_sizes_and_strides(p.second.sizes(), p.second.strides(), p.second.storage_offset());
      }
    }
  }
};

// Where CUDA too takes tensors of both devices: copies, indices, and what bitsandbytes pages.
bool mixed_allowed(const std::string& name) {
  static const std::set<std::string> ok{"aten::copy_", "aten::_copy_from", "aten::index.Tensor", "aten::index_put_",
      "aten::_index_put_impl_", "aten::index_put", "aten::_unsafe_index.Tensor", "aten::_unsafe_index_put"};
  return ok.count(name) || name.rfind("bitsandbytes::optimizer", 0) == 0 || name.rfind("bitsandbytes::blockwise", 0) == 0;
}
std::string full(const c10::OperatorName& n) { return n.overload_name.empty() ? n.name : n.name + "." + n.overload_name; }

// The kernel of nearly every operation.
void boxed(const c10::OperatorHandle& op, c10::Stack* stack) {
  const auto& schema = op.schema();
  auto n = schema.arguments().size();
  auto args = torch::jit::pop(*stack, n);
  Swap swap;
  bool card_device = false;
  c10::Stack below;
  for (auto& a : args) { if (a.isDevice() && a.toDevice().is_cuda()) card_device = true; below.push_back(swap.down(a)); }
  auto name = full(op.operator_name());
  if (swap.cards && swap.hosts && !mixed_allowed(name)) {
    TORCH_CHECK(false, "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! (", name,
        ")");
  }
  {
    at::AutoDispatchBelowAutograd below_autograd;
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    op.callBoxed(&below);
  }
  swap.settle();
  bool up = swap.cards || card_device;
  for (auto& r : below) stack->push_back(up ? swap.up(r) : r);
}

at::ScalarType type_of(std::optional<at::ScalarType> t) { return t.value_or(at::typeMetaToScalarType(at::get_default_dtype())); }
at::Tensor empty_mf(at::IntArrayRef size, std::optional<at::ScalarType> dt, std::optional<at::Layout>, std::optional<Device>,
    std::optional<bool>, std::optional<at::MemoryFormat> mf) {
  return at::detail::empty_generic(size, &alloc, DispatchKeySet(DispatchKey::CUDA), type_of(dt), mf);
}
at::Tensor empty_str(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dt, std::optional<at::Layout>,
    std::optional<Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &alloc, DispatchKeySet(DispatchKey::CUDA), type_of(dt));
}

at::Tensor& set_offset(at::Tensor& self, at::Storage source, int64_t offset, at::IntArrayRef size, at::IntArrayRef stride) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(source);
  if (stride.size() == size.size()) impl->set_sizes_and_strides(size, stride, offset);
  else { impl->set_sizes_contiguous(size); impl->set_storage_offset(offset); }
  return self;
}
at::Tensor& set_storage(at::Tensor& self, at::Storage source) {
  int64_t n = source.nbytes() / self.dtype().itemsize();
  return set_offset(self, source, 0, {n}, {});
}
const at::Tensor& resize(const at::Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat> mf) {
  auto* impl = self.unsafeGetTensorImpl();
  if (impl->sizes() == size) return self;
  size_t need = (at::detail::computeStorageNbytesContiguous(size, self.dtype().itemsize(), impl->storage_offset()));
  auto storage = self.storage();
  if (need > storage.nbytes()) {
    auto p = alloc.allocate(need);
    if (storage.nbytes() && storage.data()) memcpy(p.get(), storage.data(), storage.nbytes());
    storage.set_data_ptr_noswap(std::move(p));
    storage.set_nbytes(need);
  }
  impl->set_sizes_contiguous(size);
  return self;
}
// torch's own choice for CUDA is not in a build for the CPU; as on a card of Ampere or later, without cuDNN.
int64_t choose(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::optional<at::Tensor>& mask,
    double p, bool causal, std::optional<double> scale, bool gqa) {
  auto& c = at::globalContext();
  bool half = q.scalar_type() == at::kHalf || q.scalar_type() == at::kBFloat16;
  bool masked = mask.has_value() && mask->defined();
  if (c.userEnabledFlashSDP() && half && !masked && q.size(-1) == v.size(-1) && q.size(-1) <= 256)
    return int64_t(at::SDPBackend::flash_attention);
  if (c.userEnabledMemEfficientSDP() && !(gqa && q.size(-3) != k.size(-3))) return int64_t(at::SDPBackend::efficient_attention);
  return int64_t(at::SDPBackend::math);
}
}  // namespace

namespace at { C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, ::FakeHooks) }

TORCH_LIBRARY_IMPL(_, CUDA, lib) { lib.fallback(torch::CppFunction::makeFromBoxedFunction<&boxed>()); }
TORCH_LIBRARY_IMPL(aten, CUDA, lib) {
  lib.impl("empty.memory_format", TORCH_FN(empty_mf));
  lib.impl("empty_strided", TORCH_FN(empty_str));
  lib.impl("set_.source_Storage", TORCH_FN(set_storage));
  lib.impl("set_.source_Storage_storage_offset", TORCH_FN(set_offset));
  lib.impl("resize_", TORCH_FN(resize));
}

static std::vector<c10::RegistrationHandleRAII>* kept = new std::vector<c10::RegistrationHandleRAII>();
static std::set<std::string>* done = new std::set<std::string>();

// Every operation of that namespace that has a kernel of the CPU's gets one of the card's, which calls it.
int64_t take_over(const std::string& ns, const std::set<std::string>& without) {
  auto& d = c10::Dispatcher::singleton();
  int64_t count = 0;
  for (const auto& name : d.getAllOpNames()) {
    if (name.name.rfind(ns + "::", 0) != 0) continue;
    auto fullname = full(name);
    if (without.count(fullname) || done->count(fullname)) continue;
    auto op = d.findOp(name);
    if (!op || !op->hasSchema()) continue;
    bool copies = fullname == "aten::copy_" || fullname == "aten::_copy_from_and_resize";
    if (!copies && !op->hasKernelForDispatchKey(DispatchKey::CPU)) continue;
    if (op->hasKernelForDispatchKey(DispatchKey::CUDA)) continue;
    auto kernel = c10::KernelFunction::makeFromBoxedFunction<&boxed>();
    kept->push_back(d.registerImpl(name, DispatchKey::CUDA, kernel, std::nullopt, nullptr, "pretended card"));
    done->insert(fullname);
    count++;
  }
  return count;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, mod) {
  mod.def("begin", [] {
    c10::SetAllocator(DeviceType::CUDA, &alloc, 1);
    c10::impl::registerDeviceGuard(DeviceType::CUDA, &guard);
    at::native::_fused_sdp_choice_stub.set_cuda_dispatch_ptr(&choose);
    return at::detail::getCUDAHooks().hasCUDA();
  });
  mod.def("take_over", &take_over);
  mod.def("memory", [] {
    std::lock_guard<std::mutex> g(m);
    return std::vector<int64_t>{now_, peak_, reserved_, reserved_peak_};
  });
  mod.def("reset_peak", [] { std::lock_guard<std::mutex> g(m); peak_ = now_; reserved_peak_ = reserved_; });
  mod.def("empty_cache", [] { std::lock_guard<std::mutex> g(m); reserved_ = now_; });
  mod.def("limit", [](int64_t n) { std::lock_guard<std::mutex> g(m); limit_ = n; });
  mod.def("default_generator", [] { return py::reinterpret_steal<py::object>(THPGenerator_Wrap(default_gen())); });
}
